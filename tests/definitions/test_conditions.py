"""Conditions that could never hold, or that could not be kept, are errors where they are written."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field, model_serializer

from workflow_engine import Output
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import InvalidDefinition


class Kind(Enum):
    BILL = "bill"


class Mail(BaseModel):
    kind: str
    cents: int = Field(0, alias="amount-in-cents")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_large(self) -> bool:
        return self.cents > 10_000


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: str


class Own(BaseModel):
    kind: str

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"species": self.kind}


place = Output("classify").kind


def chained(returns: Any, when: Any) -> Any:
    def classify(ctx: StageContext[None]) -> Any: ...

    classify.__annotations__["return"] = returns

    @stage("book", when=when)
    def book(ctx: StageContext[None]) -> None: ...

    return define_workflow("mails").pipe(stage("classify")(classify)).pipe(book).build()


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (lambda: place > float("nan"), r"Output\(classify\.kind\) > nan: JSON has no such number"),
        (lambda: place == float("inf"), "== inf: JSON has no such number"),
        (lambda: place < None, r"< None never holds: None has no order\. Use == or !="),
        (lambda: place == ["bill"], "compare with text, a number, a boolean or None"),
        (lambda: place.is_in("bill"), r"in 'bill': is_in takes a list of values"),
        (lambda: place.is_in([]), "at least one value"),
        (lambda: place.is_in([{"a": 1}]), "compare with text"),
    ],
)
def test_a_value_that_no_output_can_fit_is_refused(condition: Any, text: str) -> None:
    with pytest.raises(InvalidDefinition, match=text):
        condition()


def test_members_of_an_enum_are_compared_by_what_is_stored_of_them() -> None:
    assert (place == Kind.BILL).data["value"] == "bill"
    assert place.is_in(Kind).data["value"] == ["bill"]


def test_a_set_gives_the_same_condition_in_every_process() -> None:
    assert place.is_in({"c", "a", "b"}).data["value"] == ["a", "b", "c"]


@pytest.mark.parametrize("returns", [Mail, Open, Own, dict[str, int], Any, Mail | None])
def test_a_field_is_looked_for_only_where_the_output_names_its_fields(returns: Any) -> None:
    when = Output("classify").knd == "bill"
    if returns is Mail:
        with pytest.raises(InvalidDefinition, match=r"reads 'knd' of 'classify', whose output has only: 'amount-in-ce"):
            chained(returns, when)
    else:
        assert chained(returns, when).get_stage("book").when is not None


def test_fields_go_by_the_names_that_are_stored() -> None:
    of = Output("classify")

    assert chained(Mail, (of["amount-in-cents"] > 5) & of.is_large)
    with pytest.raises(InvalidDefinition, match="reads 'cents' of 'classify'"):
        chained(Mail, ~(of.cents > 5))
