"""What one stage hands to the next, what the manager answers, and what comes out."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Claim(BaseModel):
    owner: str
    # JSON knows no decimals, and conditions compare numbers.
    cents: int
    pay_at: datetime


class Verdict(BaseModel):
    """The answer of a manager."""

    outcome: Literal["approved", "rejected"]
    by: str = Field(min_length=1, max_length=100, description="Who answers")
    note: str = ""


class BankConfig(BaseModel):
    ask_every_seconds: float = Field(default=600, gt=0, description="Time between two questions to the bank")


class Transfer(BaseModel):
    """What the bank has to be asked for."""

    number: str


class Settled(BaseModel):
    status: Literal["paid", "rejected"]
    reference: str = ""
