"""``manage.py wfe_answer``: give a waiting stage its answer."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import AnswerStage
from workflow_engine.kernel.commands.answer_stage import MOST_ITEMS
from workflow_engine.management.command import COMPLETED, FAILED, NOT_FOUND, UNAVAILABLE, USAGE, EngineCommand, whoami
from workflow_engine.management.reading import read_json, whole_number
from workflow_engine.running import run_id_of


class Command(EngineCommand):
    help = "Give a stage the answer that it waits for. wfe_status RUN shows what a stage waits for."
    exit_codes = {
        COMPLETED: "the stage has its answer, and goes on",
        FAILED: "the stage does not wait for this answer, or has it already",
        USAGE: "arguments or stage are wrong, or the answer does not fit; nothing was changed",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", metavar="RUN", help="Id of the run.")
        parser.add_argument("stage", metavar="STAGE", help="Id of the stage.")
        parser.add_argument(
            "--data", metavar="JSON", required=True, help="JSON, @file with JSON, or - for the standard input."
        )
        parser.add_argument("--wait", metavar="NAME", help="Name of the wait; default: the one it waits for now.")
        parser.add_argument(
            "--item", type=whole_number(0, MOST_ITEMS), metavar="N", help="Index of the item of a mapped stage."
        )

    def handle(self, *, run: str, stage: str, data: str, as_json: bool, **options: Any) -> None:
        command = AnswerStage(
            run_id=run_id_of(run),
            stage_id=stage,
            data=read_json(data, "--data"),
            wait=options["wait"],
            item=options["item"],
            actor=whoami(),
        )
        result = get_kernel().dispatch(command)
        if as_json:
            told = {"run_id": command.run_id, "stage_id": stage, "item": command.item}
            self.say_json({**told, "wait": result.wait, "answered": result.answered})
        else:
            self.say(f"Stage {stage} has the answer {result.wait!r}, and goes on.")
