"""``run_and_wait``: create a run, drive it in this process or let workers do it, and return its result."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, cast

from django.db import InterfaceError, OperationalError, connections

from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.context import In, Out
from workflow_engine.definitions.registry import get_workflow
from workflow_engine.errors import InvalidTransition, WaitTimeout
from workflow_engine.kernel.outputs import typed_output
from workflow_engine.models import StageMap, StageRun, WorkflowRun
from workflow_engine.models.maps import with_maps
from workflow_engine.running import create_run
from workflow_engine.statuses import RunStatus

from .options import WorkerOptions
from .worker import Worker

logger = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """What is to be seen of a stage while its run goes on."""

    stage_id: str
    status: str
    attempt: int
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run and its stages at one moment, in the plan's order; stages that do not exist yet are left out."""

    run_id: uuid.UUID
    status: str
    stages: tuple[StageSnapshot, ...]


@dataclass(frozen=True, slots=True)
class RunResult(Generic[Out]):
    """How a run ended. ``output`` is None unless it is COMPLETED; ``error`` is None unless it FAILED."""

    run_id: uuid.UUID
    status: str
    output: Out | None
    error: dict[str, Any] | None
    stages: tuple[StageSnapshot, ...]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    duration: timedelta | None = None
    # Sums of the stages' metrics ``cost`` and ``tokens``.
    total_cost: float = 0.0
    total_tokens: int = 0


def run_and_wait(
    workflow: Workflow[In, Out] | str,
    input: Any = None,
    *,
    timeout: float | timedelta | None = None,
    on_change: Callable[[RunSnapshot], None] | None = None,
    host: bool = True,
    **options: Any,
) -> RunResult[Out]:
    """Create a run and return how it ended.

    Args:
        timeout: seconds (or a timedelta) to wait; the run goes on after it.
        on_change: called whenever the status or the progress of a stage has changed.
        host: drive the run in this process; False: workers elsewhere do.
        options: as of ``create_run``.

    Raises:
        InvalidTransition: called in a transaction, where nobody else could see the run.
        WaitTimeout: the run has not ended in time; ``run_id`` says which.
    """
    _refuse_transaction()
    run = create_run(workflow, input, **options)
    return wait_for(run.pk, timeout=timeout, on_change=on_change, host=host)


def wait_for(
    run_id: uuid.UUID,
    *,
    timeout: float | timedelta | None = None,
    on_change: Callable[[RunSnapshot], None] | None = None,
    host: bool = False,
) -> RunResult[Any]:
    """Wait for a run that exists; arguments and errors as of ``run_and_wait``."""
    _refuse_transaction()
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    end = None if seconds is None else time.monotonic() + seconds
    with _hosting(run_id) if host else nullcontext():
        before = None
        for seen in _looks(run_id):
            if seen != before and on_change is not None:
                on_change(seen)
            before = seen
            if seen.status not in (RunStatus.PENDING, RunStatus.RUNNING):
                return result_of(_load(run_id))
            if end is not None and time.monotonic() >= end:
                raise WaitTimeout(run_id, cast(float, seconds))
    raise AssertionError("unreachable")


def _refuse_transaction() -> None:
    if connections[get_kernel().ports.using].in_atomic_block:
        raise InvalidTransition(
            "run_and_wait() was called inside a transaction, so nobody can see the run before it commits. "
            "Call it outside, or create_run() inside and wait after the commit."
        )


@contextmanager
def _hosting(run_id: uuid.UUID) -> Iterator[None]:
    """Drive the run in a thread of this process; who leaves early gives it back at once, unless interrupted by hand."""
    worker = Worker(get_kernel(), WorkerOptions(name=f"wait:{run_id}", run_id=run_id, attach=False))
    thread = threading.Thread(target=worker.run, name="wfe-wait", daemon=True)
    thread.start()
    try:
        yield
    except WaitTimeout:
        worker.stop()
        raise
    finally:
        worker.stop()
        try:
            thread.join(worker.grace + 5)
        except KeyboardInterrupt:
            # The second one: give back what runs and leave.
            worker.stop()
            thread.join(5)
            raise


def _looks(run_id: uuid.UUID) -> Iterator[RunSnapshot]:
    """Look at the run ten times a second; a database that is away is waited for, and that is said once."""
    away = False
    while True:
        try:
            yield look(run_id)
            away = False
        except (OperationalError, InterfaceError) as error:
            if not away:
                logger.warning("waiting for the database run=%s error=%s", run_id, error)
            away = True
            connections[get_kernel().ports.using].close()
        time.sleep(LOOK_EVERY_SECONDS)


def look(run_id: uuid.UUID) -> RunSnapshot:
    """Return the run and its current stages as they are now."""
    using = get_kernel().ports.using
    status = WorkflowRun.objects.using(using).values_list("status", flat=True).get(pk=run_id)
    return RunSnapshot(run_id, status, _snapshots(run_id, using))


def result_of(run: WorkflowRun) -> RunResult[Any]:
    """Return how a run ended (or stands), with its output as its type makes it."""
    rows = _stages(run.pk, str(run._state.db))
    return RunResult(
        run_id=run.pk,
        status=run.status,
        output=_typed_output(run),
        error=run.error,
        stages=_snapshots(run.pk, str(run._state.db), rows),
        metrics={row.stage: row.metrics for row in rows if row.metrics},
        duration=run.finished_at - run.created_at if run.finished_at else None,
        total_cost=run.total_cost,
        total_tokens=run.total_tokens,
    )


def _stages(run_id: uuid.UUID, using: str) -> list[StageRun]:
    rows = StageRun.objects.using(using).current().stages().filter(run=run_id)
    return list(rows.in_order().defer("output", "config"))


def _snapshots(run_id: uuid.UUID, using: str, rows: list[StageRun] | None = None) -> tuple[StageSnapshot, ...]:
    """Describe the stages, each once; of a mapped one, how far its items are."""
    found = _stages(run_id, using) if rows is None else rows
    counts_of = with_maps(found, using)
    return tuple(_snapshot(row, counts_of(row)) for row in found)


def _snapshot(row: StageRun, counts: StageMap | None) -> StageSnapshot:
    return StageSnapshot(
        stage_id=row.stage,
        status=row.status,
        attempt=row.attempt,
        progress=row.progress if counts is None else counts.as_progress(),
        error=row.error,
        duration=row.finished_at - row.started_at if row.finished_at and row.started_at else None,
    )


def _load(run_id: uuid.UUID) -> WorkflowRun:
    return WorkflowRun.objects.using(get_kernel().ports.using).select_related("data").get(pk=run_id)


def _typed_output(run: WorkflowRun) -> Any:
    if run.status != RunStatus.COMPLETED:
        return None
    return typed_output(run, get_workflow(run.workflow), get_kernel().ports)
