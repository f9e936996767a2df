"""django-tasks with its database backend: single tasks, it has no workflows."""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.benchmarks.peers.driver import NotDone, System, main, poll
from tests.benchmarks.peers.spec import Spec


class TasksPeer(System):
    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        os.environ.update(BENCH_POSTGRES=spec.postgres, DJANGO_SETTINGS_MODULE="tests.benchmarks.peers.tasks_settings")
        import django

        django.setup()
        from django_tasks_db.models import DBTaskResult

        from tests.benchmarks.peers.tasks_app import step

        self.step, self.rows = step, DBTaskResult.objects.filter(status="SUCCESSFUL")

    def prepare(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def start(self) -> None:
        for _ in range(self.spec.processes):
            self.spawn([sys.executable, "-m", "django", "db_worker", "--no-startup-delay", "-v", "0"])

    def create(self) -> Any:
        return self.step.enqueue(1).id

    def wait(self, handle: Any) -> None:
        poll(lambda: self.rows.filter(pk=handle).exists(), seconds=self.spec.limit_seconds)

    def finished(self) -> int:
        return int(self.rows.count())

    def verify(self, runs: int) -> None:
        if (done := self.finished()) != runs:
            raise NotDone(f"{done} tasks done, expected {runs}")


if __name__ == "__main__":
    main(TasksPeer)
