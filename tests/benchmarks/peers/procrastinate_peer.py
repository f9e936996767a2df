"""Procrastinate: jobs deferring the next, 4 at once per worker process. Each job is durable, the line is ours."""

from __future__ import annotations

import os
import sys
from typing import Any

import psycopg

from tests.benchmarks.peers.driver import NotDone, System, main, poll
from tests.benchmarks.peers.spec import PAYLOAD_BYTES, Spec

CONCURRENCY = "4"


class ProcrastinatePeer(System):
    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        os.environ["BENCH_POSTGRES"] = spec.postgres
        from tests.benchmarks.peers import procrastinate_app

        self.value: Any = "x" * PAYLOAD_BYTES if spec.workload == "payload10k" else 1
        self.app = procrastinate_app.app
        self.looking = psycopg.connect(spec.postgres, autocommit=True)
        self.app.open()

    def prepare(self) -> None:
        self.app.schema_manager.apply_schema()

    def start(self) -> None:
        application = "tests.benchmarks.peers.procrastinate_app.app"
        command = [
            sys.executable,
            "-m",
            "procrastinate",
            f"--app={application}",
            "worker",
            "--concurrency",
            CONCURRENCY,
        ]
        for _ in range(self.spec.processes):
            self.spawn(command)
        sql = "SELECT count(*) FROM procrastinate_workers WHERE %s = ''"
        poll(lambda: self.ask(sql, "") >= self.spec.processes, seconds=60, every=0.05)

    def create(self) -> Any:
        return self.app.configure_task("step").defer(value=self.value, number=1)

    def wait(self, handle: Any) -> None:
        # Its last job has a number of its own; one run alone has no younger ones beside it.
        sql = "SELECT count(*) FROM procrastinate_jobs WHERE id > %s AND task_name = 'last' AND status = 'succeeded'"
        poll(lambda: self.ask(sql, handle) == 1, seconds=self.spec.limit_seconds)

    def finished(self) -> int:
        sql = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'last' AND status = %s"
        return self.ask(sql, "succeeded")

    def begun(self) -> bool:
        # Jobs are taken in order of their ids: all first jobs are done before any second one.
        return self.ask("SELECT count(*) FROM procrastinate_jobs WHERE status = %s", "succeeded") > 0

    def verify(self, runs: int) -> None:
        steps = self.ask("SELECT count(*) FROM procrastinate_jobs WHERE status = %s", "succeeded")
        if (self.finished(), steps) != (runs, runs * self.spec.steps):
            raise NotDone(f"{self.finished()} runs with {steps} jobs, expected {runs} runs")

    def ask(self, sql: str, value: Any) -> int:
        row = self.looking.execute(sql, [value]).fetchone()
        return int(row[0]) if row else 0

    def stop(self) -> None:
        super().stop()
        self.app.close()


if __name__ == "__main__":
    main(ProcrastinatePeer)
