"""DBOS: workflows called directly by 8 threads of one process, or through its queue by worker processes."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from tests.benchmarks.peers.driver import NotDone, System, main, poll
from tests.benchmarks.peers.spec import PAYLOAD_BYTES, Spec

THREADS = 8


class DbosPeer(System):
    """Variant ``direct``: no queue, the caller's process does the work. Variant ``queue``: separate workers."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        from dbos import DBOS, DBOSClient

        from tests.benchmarks.peers import dbos_app

        self.dbos, self.app, self.client_class = DBOS, dbos_app, DBOSClient
        self.url = spec.postgres
        self.value: Any = "x" * PAYLOAD_BYTES if spec.workload == "payload10k" else 1
        self.workflow = dbos_app.fan if spec.workload == "group10" else dbos_app.line
        self.looking = psycopg.connect(spec.postgres, autocommit=True)
        self.direct = spec.variant == "direct"

    def prepare(self) -> None:
        self.dbos(config=self.app.config(self.url, "prepare"))
        self.dbos.launch()
        self.dbos.destroy()

    def start(self) -> None:
        if self.direct:
            self.dbos(config=self.app.config(self.url, "direct"))
            self.dbos.launch()
            return
        for number in range(self.spec.processes):
            self.spawn([sys.executable, "-m", "tests.benchmarks.peers.dbos_app", self.url, f"worker-{number}"])
        sql = "SELECT count(*) FROM dbos.queues WHERE name = %s"
        poll(lambda: self.ask(sql, self.app.QUEUE) == 1, seconds=60, every=0.05)

    def pids(self) -> list[int]:
        return [os.getpid()] if self.direct else super().pids()

    @property
    def client(self) -> Any:
        if not hasattr(self, "_client"):
            self._client = self.client_class(system_database_url=self.url)
        return self._client

    def create(self) -> Any:
        if self.direct:
            return self.dbos.start_workflow(self.workflow, self.value).get_workflow_id()
        name = self.workflow.__qualname__
        return self.client.enqueue({"workflow_name": name, "queue_name": self.app.QUEUE}, self.value).get_workflow_id()

    def create_many(self, runs: int) -> None:
        if not self.direct:
            super().create_many(runs)
        elif self.spec.workload == "group10":
            asyncio.run(self.gather(runs))
        else:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(self.workflow, [self.value] * runs))

    async def gather(self, runs: int) -> None:
        places = asyncio.Semaphore(THREADS)

        async def one() -> None:
            async with places:
                await self.workflow(self.value)

        await asyncio.gather(*(one() for _ in range(runs)))

    def wait(self, handle: Any) -> None:
        sql = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = %s AND status = 'SUCCESS'"
        poll(lambda: self.ask(sql, handle) == 1, seconds=self.spec.limit_seconds)

    def finished(self) -> int:
        return self.ask("SELECT count(*) FROM dbos.workflow_status WHERE status = %s", "SUCCESS")

    def begun(self) -> bool:
        return self.ask("SELECT count(*) FROM dbos.operation_outputs WHERE %s = ''", "") > 0

    def verify(self, runs: int) -> None:
        steps = self.ask("SELECT count(*) FROM dbos.operation_outputs WHERE error IS NULL AND %s = ''", "")
        if (self.finished(), steps) != (runs, runs * self.spec.steps):
            raise NotDone(f"{self.finished()} runs with {steps} steps, expected {runs} runs")

    def ask(self, sql: str, value: str) -> int:
        row = self.looking.execute(sql, [value]).fetchone()
        return int(row[0]) if row else 0

    def stop(self) -> None:
        super().stop()
        if self.direct:
            self.dbos.destroy()


if __name__ == "__main__":
    main(DbosPeer)
