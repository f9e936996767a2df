"""``manage.py wfe_check_plans``: can this code follow the plans of the runs that live? For deploy pipelines."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.drift import Drift, find_drift
from workflow_engine.management.command import COMPLETED, FAILED, UNAVAILABLE, EngineCommand


class Command(EngineCommand):
    help = "Say which live runs need stages, waits or checks that the code here does not have. Changes nothing."
    exit_codes = {
        COMPLETED: "the code can follow every plan",
        FAILED: "some runs need what the code does not have",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def handle(self, *, as_json: bool, **options: Any) -> None:
        found = find_drift(get_kernel().ports)
        if as_json:
            self.say_json({"drift": [item.as_json() for item in found]})
        else:
            self._print(found)
        if found:
            raise CommandError(
                f"{sum(item.runs for item in found)} runs cannot go on with this code.", returncode=FAILED
            )

    def _print(self, found: list[Drift]) -> None:
        for item in found:
            self.say(str(item))
            for fix in item.fixes:
                self.say(f"  {fix}")
            more = f" and {item.runs - len(item.run_ids)} more" if item.runs > len(item.run_ids) else ""
            self.say(f"  runs: {', '.join(map(str, item.run_ids))}{more}")
        if not found:
            self.say("The code can follow the plan of every live run.")
