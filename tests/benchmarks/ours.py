"""Our engine as an adapter: ``python -m tests.benchmarks.ours SPEC``; variants rq, database and sqlite."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.driver import NotDone, System, main, poll
from tests.benchmarks.peers.spec import PAYLOAD_BYTES, STEPS, Spec

START_SECONDS = 60
MANAGE = (sys.executable, "-m", "django")


def configure(spec: Spec) -> None:
    """Set Django up for the spec; the workers inherit the environment."""
    sqlite = spec.variant == "sqlite"
    os.environ.update(
        DJANGO_SETTINGS_MODULE="tests.benchmarks.settings",
        WFE_BENCH_DATABASE=str(Path(spec.scratch, "bench.sqlite3")) if sqlite else spec.postgres,
        WFE_BENCH_REDIS=spec.redis if spec.variant == "rq" else "",
        WFE_BENCH_TRANSPORT="rq" if spec.variant == "rq" else "database",
        WFE_BENCH_SCRATCH=spec.scratch,
        # Whoever hears of events costs something; only there is anybody.
        WFE_BENCH_HEARD="1" if spec.workload == "heard" else "",
    )
    import django

    django.setup()


class Ours(System):
    """Runs of the measured app, done by ``wfe_worker`` processes."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        configure(spec)
        from workflow_engine import create_run

        self._create = create_run

    def prepare(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def start(self) -> None:
        from workflow_engine.models import WorkerHeartbeat

        options = ["--threads", str(self.spec.threads)] if self.spec.threads else []
        before = set(WorkerHeartbeat.objects.values_list("pk", flat=True))
        for command in worker_commands(self.spec, options):
            self.spawn(command)
        new = WorkerHeartbeat.objects.exclude(pk__in=before)
        poll(lambda: new.count() >= self.spec.processes, seconds=START_SECONDS, every=0.05)

    def create(self) -> Any:
        return self._create(self.spec.workload, self.input()).pk

    def input(self) -> Any:
        if self.spec.workload == "payload10k":
            return "x" * PAYLOAD_BYTES
        if self.spec.workload.startswith("gaps"):
            return [time.time()]
        return 1

    def wait(self, handle: Any) -> None:
        # A bare statement: each look costs a fraction of what the querysets would take from the other processes.
        from django.db import connection

        key = handle.hex if self.spec.variant == "sqlite" else handle
        sql = "SELECT finished_at IS NOT NULL FROM workflow_engine_workflowrun WHERE id = %s"

        def has_ended() -> bool:
            with connection.cursor() as cursor:
                cursor.execute(sql, [key])
                return bool(cursor.fetchone()[0])

        poll(has_ended, seconds=self.spec.limit_seconds)

    def finished(self) -> int:
        from workflow_engine.models import WorkflowRun

        # Finished runs of earlier times are of other workflows.
        return WorkflowRun.objects.filter(workflow=self.spec.workload, finished_at__isnull=False).count()

    def begun(self) -> bool:
        from workflow_engine.models import WorkflowRun

        return WorkflowRun.objects.filter(started_at__isnull=False).exists()

    def verify(self, runs: int) -> None:
        """Count rows of every table: the runs, their stages, their attempts and their events."""
        from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowRun

        steps = runs * STEPS[self.spec.workload]
        mine: dict[str, Any] = {"run__workflow": self.spec.workload}
        done = WorkflowRun.objects.filter(workflow=self.spec.workload, status="COMPLETED")
        found = {
            "completed runs": (done.count(), runs),
            "completed stages": (StageRun.objects.filter(status="COMPLETED", **mine).count(), steps),
            "attempts": (StageAttempt.objects.filter(outcome="completed", **mine).count(), steps),
            "run.completed": (OutboxEvent.objects.filter(type="run.completed", **mine).count(), runs),
            "stage.completed": (OutboxEvent.objects.filter(type="stage.completed", **mine).count(), steps),
        }
        for what, (number, wanted) in found.items():
            if number != wanted:
                raise NotDone(f"{what}: found {number}, expected {wanted}")

    def extra(self, mode: str) -> None:
        from tests.benchmarks.ours_modes import MODES

        MODES[mode](self)


def worker_commands(spec: Spec, options: list[str]) -> list[list[str]]:
    """Return one command per process to start; one in all where ``wfe_worker`` supervises several."""
    command = [*MANAGE, "wfe_worker", *options]
    if spec.workload == "gaps-queued":
        # Each process takes one queue only, so every stage but the first comes through the queue of the other.
        return [[*command, "--queues", queue] for queue in ("workflows", "others")]
    if spec.processes > 1 and "--processes" in worker_help():
        return [[*command, "--processes", str(spec.processes)]]
    return [command] * spec.processes


@cache
def worker_help() -> str:
    return subprocess.run([*MANAGE, "wfe_worker", "--help"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Ours)
