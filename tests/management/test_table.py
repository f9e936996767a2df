"""The view of a terminal, and the choice between it and plain lines."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.management.calling import Terminal, call
from tests.workflows import Broken, Number, chain
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.management import live

pytest.importorskip("rich")
pytestmark = pytest.mark.django_db(transaction=True)
Know = Callable[..., Any]


@pytest.fixture(autouse=True)
def terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)


def test_a_terminal_gets_a_table_that_ends_with_every_stage_done(known: Know) -> None:
    known(chain(2))

    called = call("wfe_run", "chain", "--input", '{"value": 1}', "--watch", out=Terminal())

    shown = plain(called.out)
    assert re.search(r"chain  COMPLETED  \d+ s", shown)
    assert re.search(r"✓  add-1 +1 +━+ +[\d.]+ m?s +completed", shown)
    assert re.search(r"✓  add-2", shown)


def test_a_retry_shows_when_and_why(known: Know) -> None:
    @stage("flaky", retry=Retry(max_attempts=2, initial=timedelta(milliseconds=500), jitter=0))
    def flaky(ctx: StageContext[Number]) -> Number:
        if ctx.attempt == 1:
            raise Broken("[red]no[/red]")
        return ctx.input

    known(define_workflow("flaky", input=Number).pipe(flaky).build())

    called = call("wfe_run", "flaky", "--input", '{"value": 1}', "--watch", out=Terminal())

    assert re.search(r"↻  flaky +1 +retries at \d\d:\d\d:\d\d: Broken: \[red\]no\[/red\]", plain(called.out))


def test_log_handlers_are_as_they_were_afterwards(known: Know) -> None:
    known(chain(1))
    handlers = [
        handler
        for name in (None, "django")
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    before = [(handler.stream, handler.level) for handler in handlers]

    call("wfe_run", "chain", "--input", '{"value": 1}', "--watch", out=Terminal())

    assert [(handler.stream, handler.level) for handler in handlers] == before


@pytest.mark.parametrize("reason", ["no rich", "dumb terminal"])
def test_where_no_table_can_move_plain_lines_are_printed(
    known: Know, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    known(chain(1))
    if reason == "no rich":
        monkeypatch.setattr(live, "find_spec", lambda name: None)
    else:
        monkeypatch.setenv("TERM", "dumb")

    called = call("wfe_run", "chain", "--input", '{"value": 1}', "--watch", out=Terminal())

    assert "\x1b" not in called.out
    assert re.search(r"^\d\d:\d\d:\d\d  add-1  completed", called.out, flags=re.MULTILINE)
