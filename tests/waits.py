"""Workflows that wait for everything there is to wait for: answers, checks, times; and one stage with a condition."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, Field

from workflow_engine import Completion, Output, Wait
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage


class Purchase(BaseModel):
    amount: int = 0


class Decision(BaseModel):
    outcome: Literal["approved", "rejected"] = Field(description="What is to become of it")
    note: str = ""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Form(BaseModel):
    """Every kind of field that a form has a widget for, and one that it has none for."""

    text: str = Field(min_length=2, description="Some words")
    count: int = Field(ge=1)
    ratio: float = 0.5
    price: Decimal
    yes: bool
    maybe: bool | None = None
    kind: Literal["a", 2]
    colour: Colour = Colour.BLUE
    day: date
    moment: datetime | None = None
    rest: list[int] = []


MANAGER = Wait("manager", Decision, max_wait=timedelta(days=3), description="Shall we buy it?")
DETAILS = Wait("details", Form)
BOARD = Wait("board", bool, max_wait=timedelta(days=1), default=False)


@stage("weigh")
def weigh(ctx: StageContext[Purchase]) -> Purchase:
    return ctx.input


@stage("approve", waits=[MANAGER, BOARD], when=Output(weigh).amount > 100)
def approve(ctx: StageContext[Purchase]) -> Decision:
    decision = ctx.wait_for(MANAGER)
    if ctx.input.amount > 10_000 and not ctx.wait_for(BOARD):
        return Decision(outcome="rejected", note="the board")
    return decision


@stage("buy")
def buy(ctx: StageContext[Any]) -> str:
    return "bought"


def purchase() -> Workflow[Purchase, str]:
    """A purchase that is approved by the manager above 100, and by the board too above 10,000."""
    return define_workflow("purchase", name="Purchase", input=Purchase).pipe(weigh).pipe(approve).pipe(buy).build()


@stage("fill-in", waits=[DETAILS])
def fill_in(ctx: StageContext[None]) -> Form:
    return ctx.wait_for(DETAILS)


def questionnaire() -> Workflow[None, Form]:
    return define_workflow("questionnaire").pipe(fill_in).build()


HASTY = Wait("anybody", bool, max_wait=timedelta(milliseconds=500), default=True)


@stage("hurry", waits=[HASTY])
def hurry(ctx: StageContext[Purchase]) -> bool:
    return ctx.wait_for(HASTY)


def hasty() -> Workflow[Purchase, str]:
    """A run that waits for half a second, and skips its last stage but one."""
    skipped = stage("approve", when=Output(weigh).amount < 0)(pass_on)
    return define_workflow("hasty", input=Purchase).pipe(weigh).pipe(hurry).pipe(skipped).pipe(buy).build()


def pass_on(ctx: StageContext[bool]) -> bool:
    return ctx.input


@stage("remind")
def remind(ctx: StageContext[None]) -> str:
    ctx.sleep(timedelta(days=30), name="a-month")
    return "reminded"


def reminder() -> Workflow[None, str]:
    return define_workflow("reminder").pipe(remind).build()


@stage("gift", when=Output(weigh).amount < 0)
def gift(ctx: StageContext[Purchase]) -> str:
    return "for free"


def gifts() -> Workflow[Any, Any]:
    """A run whose output is that of its first stage, since the last one is skipped."""
    return define_workflow("gifts", input=Purchase).pipe(weigh).pipe(gift).build()


def batch(check: Callable[[], Completion[str]]) -> Workflow[None, str]:
    """A batch that is checked every 30 seconds; ``check`` says what is found, or raises."""

    @stage("submit", check_retry=Retry(max_attempts=9, initial=timedelta(seconds=10), jitter=0))
    def submit(ctx: StageContext[None]) -> str:
        ctx.suspend({"batch": 1})

    @submit.check_completion
    def submitted(ctx: StageContext[None], state: dict[str, int]) -> Completion[str]:
        return check()

    return define_workflow("batch").pipe(submit).build()
