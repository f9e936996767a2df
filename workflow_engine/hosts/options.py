"""How a worker runs, and what it says of itself."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from workflow_engine.kernel.ports import Ports, WorkerFacts


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker runs. ``queues`` None: every queue. ``run_id``: nothing but this run."""

    name: str = ""
    threads: int | None = None
    queues: Sequence[str] | None = None
    burst: bool = False
    orchestrate: bool = True
    grace: float | None = None
    max_jobs: int | None = None
    # Listen to the transport; else only what this process itself rings is heard, and the database polled.
    attach: bool = True
    run_id: uuid.UUID | None = None
    # Known beforehand to whoever started this process; None: it draws one.
    id: uuid.UUID | None = None
    # Workers whose processes are known to have ended badly.
    dead: Sequence[uuid.UUID] = ()


def describe_worker(worker_id: uuid.UUID, options: WorkerOptions, slots: int, ports: Ports) -> WorkerFacts:
    """Return what a worker of this process tells others."""
    host = socket.gethostname()
    return WorkerFacts(
        id=worker_id,
        name=options.name or f"{host}:{os.getpid()}",
        host=host,
        pid=os.getpid(),
        version=_version(),
        slots=slots,
        queues=None if options.queues is None else tuple(options.queues),
        workflows=tuple(ports.known_workflows()),
        stages=ports.known_stages(),
    )


def _version() -> str:
    try:
        return importlib.metadata.version("django-durable-workflows")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
