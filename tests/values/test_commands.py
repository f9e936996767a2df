"""Hostile texts to the management commands: done, or refused in a sentence; never a traceback, nothing unreadable."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

from .corpus import CANARY
from .entries import ANY
from .reading import read_rows, reader
from .texts import texts

# What stands in the way of a text does so on every database.
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
# ``{text}`` stands for the value, ``{run}`` for a run that waits for an answer.
COMMANDS: dict[str, list[str]] = {
    "run": ["wfe_run", "--no-host", "--", "{text}"],
    "run input": ["wfe_run", "any", "--no-host", "--input={text}"],
    "run config": ["wfe_run", "any", "--no-host", "--config={text}"],
    "run a stage's config": ["wfe_run", "any", "--no-host", '--config={"ask": {"any": {text}}}'],
    "run key": ["wfe_run", "any", "--no-host", "--idempotency-key={text}"],
    "run timeout": ["wfe_run", "any", "--no-host", "--timeout={text}"],
    "answer": ["wfe_answer", "{run}", "ask", "--data={text}"],
    "answer wait": ["wfe_answer", "{run}", "ask", "--data=1", "--wait={text}"],
    "answer stage": ["wfe_answer", "--data=1", "--", "{run}", "{text}"],
    "answer run": ["wfe_answer", "--data=1", "--", "{text}", "ask"],
    "cancel": ["wfe_cancel", "--", "{text}"],
    "cancel reason": ["wfe_cancel", "{run}", "--reason={text}"],
    "cancel many": ["wfe_cancel", "--workflow={text}", "--yes"],
    "pause": ["wfe_pause", "--", "{text}"],
    "pause reason": ["wfe_pause", "{run}", "--reason={text}"],
    "pause queue": ["wfe_pause", "--queue={text}"],
    "resume": ["wfe_resume", "--", "{text}"],
    "rerun": ["wfe_rerun", "--", "{run}", "{text}"],
    "rerun config": ["wfe_rerun", "{run}", "ask", "--config={text}"],
    "rerun key": ["wfe_rerun", "{run}", "ask", "--idempotency-key={text}"],
    "bulk": ["wfe_bulk", "--", "{text}"],
    "bulk reason": ["wfe_bulk", "--action=cancel", "--workflow=any", "--reason={text}"],
    "outbox": ["wfe_outbox", "--subscriber={text}"],
    "outbox run": ["wfe_outbox", "--run={text}"],
    "schedules": ["wfe_schedules", "preview", "--cron={text}"],
    "schedules zone": ["wfe_schedules", "preview", "--cron=0 0 * * *", "--timezone={text}"],
    "schedules name": ["wfe_schedules", "run", "--", "{text}"],
    "status": ["wfe_status", "--", "{text}"],
    "status workflow": ["wfe_status", "--workflow={text}"],
    "prune": ["wfe_prune", "--older-than={text}"],
    "graph": ["wfe_graph", "--", "{text}"],
    "doctor": ["wfe_doctor", "--runs={text}"],
}


class Terminal(io.TextIOWrapper):
    """Takes what a terminal takes: text that can be written as UTF-8."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)

    def said(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_does_it_or_says_why_not(
    name: str, known: Any, host: InlineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(ANY)
    run = create_run(ANY)
    host.drain(run.pk)

    for what, text in texts():
        command, *arguments = [part.replace("{text}", text).replace("{run}", str(run.pk)) for part in COMMANDS[name]]
        terminal = Terminal()
        monkeypatch.setattr("sys.stdin", io.StringIO("1"))
        try:
            call_command(command, *arguments, stdout=terminal, stderr=terminal)
        except CommandError as error:
            # Python's standard error spells out what it cannot write.
            terminal.write(str(error).encode("utf-8", "backslashreplace").decode())
        except SystemExit as ended:
            assert ended.code in (0, 1, 2), what
        assert "Traceback" not in terminal.said(), what
        assert CANARY not in terminal.said() or CANARY in text, what

    read_rows(reader(), WorkflowRun, most=30, every=10)
