"""What goes into the workflow, what one stage hands to the next, and what comes out."""

from typing import Literal

from pydantic import BaseModel, Field

from .extraction import Kind
from .language import Language
from .readability import Readability


class Source(BaseModel):
    """Where the documents are. Workers read with their own rights: let only people start runs who share them."""

    path: str = Field(
        min_length=1, description="A file, a folder (with everything below it) or a pattern like docs/**/*.md"
    )
    limit: int | None = Field(
        default=None, ge=1, description="Take at most this many documents, in order of their names"
    )


class ExtractConfig(BaseModel):
    max_documents: int = Field(default=200, ge=1, le=2_000, description="No run takes more documents than this")
    max_characters: int = Field(default=20_000, ge=1, le=1_000_000, description="Read this much of each document")
    on_unreadable: Literal["fail", "skip"] = Field(
        default="fail", description="What a document without readable text does: fail the run, or stand in the report"
    )
    practice_failures: int = Field(default=0, ge=0, le=10, description="Raise this many times first, to watch a retry")


class Text(BaseModel):
    name: str
    kind: Kind
    text: str
    truncated: bool


class Skipped(BaseModel):
    name: str
    reason: str


class Texts(BaseModel):
    documents: list[Text]
    skipped: list[Skipped] = []
    left_out: int = 0
    """Documents beyond the limit."""


class Findings(BaseModel):
    """What the parallel stages found, each by document name. The fields are the ids of the stages, with `_` for `-`."""

    detect_language: dict[str, Language]
    score_readability: dict[str, Readability]
    find_key_phrases: dict[str, list[str]]


class Report(BaseModel):
    documents: int
    words: int
    languages: dict[str, int]
    """How many documents are in each language, the most frequent first."""
    skipped: int
    left_out: int
    artifacts: list[str]
