"""``manage.py wfe_rerun``: let a run that has ended go on from one of its stages."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import InvalidTransition
from workflow_engine.kernel.commands import RerunFrom
from workflow_engine.kernel.reruns import PlannedStage, RerunPlan
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
from workflow_engine.management.looking import NOT_YET
from workflow_engine.management.printing import table
from workflow_engine.management.reading import read_json
from workflow_engine.running import plan_rerun, run_id_of


class Command(EngineCommand):
    help = "Let a run that has ended go on from a stage: its whole group and all later ones run again."
    exit_codes = {
        COMPLETED: "the run goes on (or, with --preview, would)",
        FAILED: "refused: the run has not ended, a stage before did not succeed, or no item failed; it is as it was",
        USAGE: "arguments, stage or config are wrong",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", metavar="RUN", help="Id of the run.")
        parser.add_argument("stage", metavar="STAGE", help="Id of the first stage to run again.")
        parser.add_argument("--config", metavar="JSON", help='{"stage-id": {"field": value}}, @file with it, or -.')
        parser.add_argument(
            "--failed-items",
            action="store_true",
            help="STAGE is mapped: of its items only those that have not succeeded run again.",
        )
        parser.add_argument(
            "--preview", action="store_true", help="Say what is kept and what runs again; change nothing."
        )
        parser.add_argument("--idempotency-key", metavar="K", help="The same key again does nothing more.")

    def handle(self, *, run: str, stage: str, preview: bool, failed_items: bool, as_json: bool, **options: Any) -> None:
        config = None if options["config"] is None else read_json(options["config"], "--config")
        try:
            if preview:
                plan = plan_rerun(run, stage, config=config, only_failed_items=failed_items)
                self._preview(plan, as_json=as_json)
                return
            command = RerunFrom(
                run_id=run_id_of(run),
                stage_id=stage,
                config=config,
                only_failed_items=failed_items,
                actor=whoami(),
                idempotency_key=options["idempotency_key"],
            )
            self._rerun(command, as_json=as_json)
        except InvalidTransition as error:
            raise Refusal(str(error), returncode=FAILED, code=error.code) from error

    def _preview(self, plan: RerunPlan, *, as_json: bool) -> None:
        if as_json:
            self.say_json(plan.as_json())
            return
        for line in _plan_lines(plan):
            self.say(line)

    def _rerun(self, command: RerunFrom, *, as_json: bool) -> None:
        result = get_kernel().dispatch(command)
        if as_json:
            facts = {"run_id": result.run_id, "generation": result.generation, "superseded": result.superseded}
            self.say_json({**facts, "replayed": result.replayed})
        elif result.replayed:
            self.say(f"Run {result.run_id} was rerun before, with the same key (generation {result.generation}).")
        else:
            what = "the failed items of " if command.only_failed_items else ""
            self.say(f"Run {result.run_id} goes on from {what}{command.stage_id} (generation {result.generation}).")


def _plan_lines(plan: RerunPlan) -> Iterator[str]:
    yield f"A rerun of run {plan.run_id} from {plan.stage_id} would begin generation {plan.generation}."
    yield ""
    rows = [_row(one, "kept") for one in plan.kept] + [_row(one, _again(one, plan)) for one in plan.again]
    yield from table(("group", "stage", "status", ""), rows)


def _again(one: PlannedStage, plan: RerunPlan) -> str:
    if one.stage_id != plan.stage_id or plan.items_again is None:
        return "runs again"
    return f"its {plan.items_again:,} failed {'item runs' if plan.items_again == 1 else 'items run'} again"


def _row(one: PlannedStage, what: str) -> tuple[str, ...]:
    return str(one.group), one.stage_id, one.status or NOT_YET, what
