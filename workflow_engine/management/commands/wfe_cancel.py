"""``manage.py wfe_cancel``: end a run now."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import CancelRun
from workflow_engine.management.command import COMPLETED, FAILED, NOT_FOUND, UNAVAILABLE, USAGE, EngineCommand, whoami
from workflow_engine.running import run_id_of


class Command(EngineCommand):
    help = "Cancel a run with every stage that has not ended; bodies that run are told, and their results dropped."
    exit_codes = {
        COMPLETED: "the run is cancelled",
        FAILED: "the run had already ended, and is as it was",
        USAGE: "the arguments are wrong",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", metavar="RUN", help="Id of the run.")
        parser.add_argument("--reason", default="", help="Kept with the run.")

    def handle(self, *, run: str, reason: str, as_json: bool, **options: Any) -> None:
        run_id = run_id_of(run)
        result = get_kernel().dispatch(CancelRun(run_id=run_id, reason=reason, actor=whoami()))
        if as_json:
            self.say_json({"run_id": run_id, "cancelled": result.cancelled, "status": result.status})
        elif result.cancelled:
            self.say(f"Run {run_id} is cancelled.")
        if not result.cancelled:
            raise CommandError(f"Run {run_id} had already ended: it is {result.status}.", returncode=FAILED)
