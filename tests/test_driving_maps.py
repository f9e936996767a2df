"""``run_workflow`` with maps and child runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.part_way import LOOK, reviews
from workflow_engine import Retry, StageContext, define_workflow, stage
from workflow_engine.definitions import Workflow
from workflow_engine.testing import run_workflow

pytestmark = pytest.mark.django_db


def asking_child() -> Workflow[str, str]:
    @stage("ask", waits=[LOOK], retry=Retry(max_attempts=1))
    def ask(ctx: StageContext[str]) -> str:
        return f"{ctx.input}: {ctx.wait_for(LOOK)}"

    return define_workflow("asking", input=str).pipe(ask).build()


def delegating() -> Workflow[str, str]:
    @stage("delegate")
    def delegate(ctx: StageContext[str]) -> str:
        return str(ctx.run_child("asking", ctx.input))

    return define_workflow("delegating", input=str).pipe(delegate).build()


def test_every_item_gets_the_answer() -> None:
    assert run_workflow(reviews(), ["a", "b"], answers={"look": True}).output == ["a: True", "b: True"]


def test_a_child_gets_the_answer(known: Callable[..., Any]) -> None:
    known(asking_child())

    assert run_workflow(delegating(), "a", answers={"look": False}).output == "a: False"


def test_items_that_nobody_answers_are_named_once() -> None:
    with pytest.raises(AssertionError, match=r"waits for the answer to 'look' of stage 'review': pass answers="):
        run_workflow(reviews(), ["text"] * 150)


def test_a_child_that_nobody_answers_is_named(known: Callable[..., Any]) -> None:
    known(asking_child())

    with pytest.raises(AssertionError, match="'look' of stage 'ask': pass answers="):
        run_workflow(delegating(), "a")
