"""Celery: a chain or a chord, prefork workers, Redis as broker and result backend. Not durable."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Any

from tests.benchmarks.peers.driver import NotDone, System, main
from tests.benchmarks.peers.spec import PAYLOAD_BYTES, Spec

LOOK_AT = 200


class CeleryPeer(System):
    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        os.environ["BENCH_REDIS"] = spec.redis
        from tests.benchmarks.peers import celery_app

        self.app = celery_app.app
        self.canvas = celery_app.fan if spec.workload == "group10" else celery_app.line
        self.value: Any = "x" * PAYLOAD_BYTES if spec.workload == "payload10k" else 1
        self.pending: deque[str] = deque()
        self.all: list[Any] = []
        self.done = 0

    def prepare(self) -> None:
        """Redis has no tables."""

    def start(self) -> None:
        application = "tests.benchmarks.peers.celery_app"
        command = [sys.executable, "-m", "celery", "-q", "-A", application, "worker", "-l", "ERROR"]
        self.spawn([*command, "--concurrency", str(self.spec.processes)])
        # The first run of the warm-up waits until somebody takes it.

    def create(self) -> Any:
        result = self.canvas(self.value).apply_async()
        self.pending.append(result.id)
        self.all.append(result)
        return result

    def wait(self, handle: Any) -> None:
        handle.get(timeout=60)

    def finished(self) -> int:
        # Runs end nearly in order: one command looks at the oldest ones only.
        client, key = self.app.backend.client, self.app.backend.get_key_for_task
        while self.pending:
            oldest = [self.pending[index] for index in range(min(LOOK_AT, len(self.pending)))]
            found = int(client.exists(*map(key, oldest)))
            if found < len(oldest):
                return self.done + found
            self.done += len(oldest)
            for _ in oldest:
                self.pending.popleft()
        return self.done

    def begun(self) -> bool:
        # Tasks of a chain go to the end of the queue: all first tasks are done before any second one.
        return bool(self.app.backend.client.exists(self.app.backend.get_key_for_task(chain_of(self.all[0])[-1].id)))

    def verify(self, runs: int) -> None:
        """Look at the result of every task of every run; a task may pass its value on before it stores its result."""
        tasks = [task for result in self.all for task in (result, *chain_of(result))]
        tasks = list({task.id: task for task in tasks}.values())
        if (len(self.all), len(tasks)) != (runs, runs * self.spec.steps):
            raise NotDone(f"{len(self.all)} runs with {len(tasks)} tasks, expected {runs} runs")
        for task in tasks:
            task.get(timeout=5, disable_sync_subtasks=False)
            if task.status != "SUCCESS":
                raise NotDone(f"task {task.id} is {task.status}")


def chain_of(result: Any) -> list[Any]:
    """Return the earlier tasks of a chain, or the members of a chord."""
    parent = result.parent
    if parent is None:
        return []
    if hasattr(parent, "results"):
        return list(parent.results)
    return [parent, *chain_of(parent)]


if __name__ == "__main__":
    main(CeleryPeer)
