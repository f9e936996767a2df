"""``manage.py wfe_pause``: let nothing new start of a run or a workflow, or in a queue."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import registered_workflows
from workflow_engine.kernel.commands import PauseRun, PauseWork
from workflow_engine.management.command import COMPLETED, FAILED, NOT_FOUND, UNAVAILABLE, USAGE, EngineCommand, whoami
from workflow_engine.management.targets import add_target, read_target
from workflow_engine.statuses import OPEN_RUN, PauseScope


class Command(EngineCommand):
    help = "Let nothing new start of a run or a workflow, or in a queue, until wfe_resume; what runs finishes."
    exit_codes = {
        COMPLETED: "paused, now or before",
        FAILED: "the run had already ended, and is as it was",
        USAGE: "the arguments are wrong, or there is no such workflow",
        NOT_FOUND: "no such run",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_target(parser)

    def handle(self, *, reason: str, as_json: bool, **options: Any) -> None:
        target, kernel = read_target(options), get_kernel()
        status = None
        if target.scope == "run":
            run = kernel.dispatch(PauseRun(run_id=uuid.UUID(target.name), reason=reason, actor=whoami()))
            changed, status = run.changed, run.status
        else:
            command = PauseWork(scope=target.scope, name=target.name, reason=reason, actor=whoami())
            changed = kernel.dispatch(command).changed
        has_ended = status is not None and status not in OPEN_RUN
        if as_json:
            facts = {"scope": target.scope, "name": target.name, "changed": changed}
            self.say_json(facts if status is None else {**facts, "status": status})
        elif not has_ended:
            self.say(f"{target} is paused." if changed else f"{target} was paused already.")
            if target.scope == PauseScope.QUEUE and target.name not in (known := _known_queues()):
                self.say(f"No stage of the code here is in it. Queues with stages: {', '.join(known) or 'none'}.")
        if has_ended:
            raise CommandError(f"{target} had already ended: it is {status}.", returncode=FAILED)


def _known_queues() -> list[str]:
    return sorted({stage.queue for workflow in registered_workflows() for stage in workflow})
