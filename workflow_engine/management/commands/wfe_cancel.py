"""``manage.py wfe_cancel``: end a run now, or all runs that fit, in the background."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import CancelRun
from workflow_engine.management.command import (
    COMPLETED,
    FAILED,
    NOT_FOUND,
    UNAVAILABLE,
    USAGE,
    EngineCommand,
    Refusal,
    whoami,
)
from workflow_engine.management.selecting import add_selection, begin, is_selection, read_selection
from workflow_engine.running import run_id_of
from workflow_engine.statuses import BulkKind


class Command(EngineCommand):
    help = (
        "Cancel a run with every stage that has not ended; bodies that run are told, and their results dropped. "
        "Without RUN: let the workers cancel the open runs that fit."
    )
    exit_codes = {
        COMPLETED: "the run is cancelled, or the workers cancel the runs that fit",
        FAILED: "the run had already ended, and is as it was; or the answer was not yes",
        USAGE: "the arguments are wrong, or --yes is missing where nobody can be asked",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", nargs="?", metavar="RUN", help="Id of the run.")
        add_selection(parser)
        parser.add_argument("--reason", default="", help="Kept with the run.")

    def handle(self, *, run: str | None, reason: str, as_json: bool, **options: Any) -> None:
        if (run is not None) == is_selection(options):
            message = "Name a RUN, or say which runs: --workflow ID, --status STATUS, --older-than AGE; not both."
            raise Refusal(message, returncode=USAGE, code="USAGE")
        if run is None:
            chosen = read_selection(options)
            chosen = replace(chosen, runs=chosen.runs.open(), words=f"open {chosen.words}")
            begin(self, BulkKind.CANCEL, chosen, {**options, "as_json": as_json}, reason=reason)
        else:
            self._cancel(run, reason, as_json=as_json)

    def _cancel(self, run: str, reason: str, *, as_json: bool) -> None:
        run_id = run_id_of(run)
        result = get_kernel().dispatch(CancelRun(run_id=run_id, reason=reason, actor=whoami()))
        if as_json:
            self.say_json({"run_id": run_id, "cancelled": result.cancelled, "status": result.status})
        elif result.cancelled:
            self.say(f"Run {run_id} is cancelled.")
        if not result.cancelled:
            raise CommandError(f"Run {run_id} had already ended: it is {result.status}.", returncode=FAILED)
