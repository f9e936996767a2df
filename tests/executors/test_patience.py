"""A database that goes away while a body asks its context for something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageAttempt, StageRun

pytestmark = pytest.mark.django_db(transaction=True)
CALLS: dict[str, Callable[[StageContext[int]], object]] = {
    "require": lambda ctx: ctx.require("first"),
    "once": lambda ctx: ctx.once("step", lambda: 1),
    "subject": lambda ctx: ctx.subject,
}


def workflow(call: Callable[[StageContext[int]], object], failures: int) -> Any:
    """Return a workflow whose second stage asks while its connection is lost again and again."""
    left = [failures]

    def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    @stage("first")
    def first(ctx: StageContext[int]) -> int:
        return ctx.input

    @stage("asks")
    def asks(ctx: StageContext[int]) -> int:
        with connection.execute_wrapper(broken):
            call(ctx)
        return ctx.input

    return define_workflow("asking", input=int).pipe(first).pipe(asks).build()


@pytest.mark.parametrize("name", CALLS)
def test_what_the_context_asks_waits_for_the_database_and_costs_no_attempt(known: Any, name: str) -> None:
    known(workflow(CALLS[name], failures=3))
    run = create_run("asking", 1)

    with working():
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert set(StageAttempt.objects.values_list("outcome", flat=True)) == {"completed"}
    assert StageRun.objects.get(stage="asks").failures == 0
    check_all()


def test_where_no_lease_bounds_the_wait_the_attempt_fails_and_is_tried_again(known: Any) -> None:
    known(workflow(CALLS["require"], failures=1))
    create_run("asking", 1)

    InlineHost(get_kernel()).drain()

    row = StageRun.objects.get(stage="asks")
    assert (row.status, row.failures) == ("PENDING", 1)
