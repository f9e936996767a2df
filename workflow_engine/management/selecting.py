"""Which runs a command for many is about, and the question whether they are really meant."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.bulk import find_operation
from workflow_engine.graphs.durations import spell
from workflow_engine.kernel.commands import StartBulk
from workflow_engine.models import BulkOperation, WorkflowRun
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.statuses import BulkKind, RunStatus

from .command import FAILED, USAGE, EngineCommand, Refusal, whoami
from .reading import age

WAYS = ("workflow", "status", "older_than")
CHANGED = {"cancel": "cancelled", "pause": "paused", "resume": "resumed", "rerun": "rerun"}


@dataclass(frozen=True, slots=True)
class Selection:
    """``runs`` are those that fit now, the oldest first; ``words`` say which, for people."""

    runs: WorkflowRunQuerySet
    words: str


def add_selection(parser: ArgumentParser) -> None:
    parser.add_argument("--workflow", metavar="ID", help="Runs of this workflow.")
    parser.add_argument("--status", type=str.upper, choices=RunStatus.values, help="Runs of this status.")
    parser.add_argument("--older-than", type=age, metavar="AGE", help="Runs created before: 90s, 15m, 12h, 7d, 2w.")
    parser.add_argument("--yes", action="store_true", help="Do not ask whether these runs are meant.")


def is_selection(options: dict[str, Any]) -> bool:
    return any(options[name] is not None for name in WAYS)


def read_selection(options: dict[str, Any]) -> Selection:
    """Return the runs that fit all that was said. Raises ``Refusal`` if nothing was: nobody means every run."""
    if not is_selection(options):
        raise Refusal(
            "Say which runs: --workflow ID, --status STATUS or --older-than AGE.", returncode=USAGE, code="USAGE"
        )
    ports = get_kernel().ports
    rows, words = WorkflowRun.objects.using(ports.using).order_by("id"), ["runs"]
    if options["status"] is not None:
        rows, words = rows.filter(status=options["status"]), [options["status"], *words]
    if options["workflow"] is not None:
        rows = rows.for_workflow(options["workflow"])
        words.append(f"of {options['workflow']}")
    older: timedelta | None = options["older_than"]
    if older is not None:
        rows = rows.filter(created_at__lt=ports.clock.db_now() - older)
        words.append(f"created more than {spell(older)} ago")
    return Selection(rows, " ".join(words))


def begin(command: EngineCommand, kind: BulkKind, chosen: Selection, options: dict[str, Any], **arguments: Any) -> None:
    """Ask, begin the operation, and say how to follow it."""
    count, as_json = chosen.runs.count(), options["as_json"]
    if not options["yes"]:
        _ask(command, f"{count:,} {chosen.words} would be {CHANGED[kind]}.", as_json=as_json)
    started = get_kernel().dispatch(StartBulk(kind=kind, runs=chosen.runs, actor=whoami(), **arguments))
    operation = find_operation(started.operation_id)
    if as_json:
        command.say_json(as_data(operation))
    elif not operation.total:
        command.say(f"There are no {chosen.words}: nothing is {CHANGED[kind]}.")
    else:
        command.say(f"{operation.total:,} {chosen.words} are being {CHANGED[kind]}, by the workers.")
        command.say(f"How far that is: manage.py wfe_bulk {operation.pk}")


def _ask(command: EngineCommand, what: str, *, as_json: bool, answer: Callable[[], str] = input) -> None:
    if as_json or not sys.stdin.isatty():
        raise Refusal(f"{what} Repeat with --yes to do it.", returncode=USAGE, code="NOT_CONFIRMED")
    command.say(f"{what} Type yes to do it:")
    try:
        said = answer()
    except EOFError:
        said = ""
    if said.strip().lower() not in ("y", "yes"):
        raise Refusal("Nothing was done.", returncode=FAILED, code="NOT_CONFIRMED")


def as_data(operation: BulkOperation) -> dict[str, Any]:
    """Return an operation as plain data."""
    names = ("status", "actor", "total", "done", "changed", "unchanged", "failed")
    times = ("created_at", "started_at", "finished_at")
    return {
        "operation_id": operation.pk,
        "action": operation.kind,
        **operation.arguments,
        **{name: getattr(operation, name) for name in (*names, *times)},
    }
