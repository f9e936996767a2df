"""A worker in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.models import WorkflowRun


@contextmanager
def working(**options: Any) -> Iterator[Worker]:
    """Run a worker in a thread; stop and drain it at the end."""
    worker = Worker(get_kernel(), WorkerOptions(**{"threads": 4, "grace": 5, **options}))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        if not worker.is_stopping:
            worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def status_of(run: WorkflowRun) -> str:
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk)
