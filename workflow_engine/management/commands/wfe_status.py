"""``manage.py wfe_status``: what goes on, or how one run stands."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.management.command import COMPLETED, FAILED, NOT_FOUND, UNAVAILABLE, USAGE, EngineCommand
from workflow_engine.management.detail import detail_as_json, detail_lines
from workflow_engine.management.looking import find_run
from workflow_engine.management.overview import look_around, overview_lines
from workflow_engine.management.reading import whole_number
from workflow_engine.statuses import RunStatus


class Command(EngineCommand):
    help = "Show one run with its stages, log and files; without RUN: counts, workers and the latest runs."
    exit_codes = {
        COMPLETED: "shown",
        FAILED: "shown, and the run is FAILED",
        USAGE: "the arguments are wrong",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", nargs="?", metavar="RUN", help="Id of the run.")
        parser.add_argument("--limit", type=whole_number(0), default=20, metavar="N", help="Runs to list (20).")
        parser.add_argument("--status", type=str.upper, choices=RunStatus.values, help="List runs of this status.")
        parser.add_argument("--workflow", metavar="WORKFLOW", help="Count and list runs of this workflow.")
        parser.add_argument("--parent", metavar="RUN", help="Count and list the runs that this run has started.")

    def handle(self, *, run: str | None, as_json: bool, **options: Any) -> None:
        if run is not None:
            self._show_run(run, as_json=as_json)
            return
        parent = None if options["parent"] is None else find_run(options["parent"]).pk
        overview = look_around(
            workflow=options["workflow"], status=options["status"], limit=options["limit"], parent=parent
        )
        if as_json:
            self.say_json(overview.as_json())
            return
        for line in overview_lines(overview):
            self.say(line)

    def _show_run(self, run_id: str, *, as_json: bool) -> None:
        run = find_run(run_id)
        if as_json:
            self.say_json(detail_as_json(run))
        else:
            for line in detail_lines(run):
                self.say(line)
        if run.status == RunStatus.FAILED:
            raise CommandError(f"Run {run.pk} is FAILED.", returncode=FAILED)
