"""``run_workflow``: a whole run inside one test, without worker, thread or Redis."""

from __future__ import annotations

from typing import Any

from django.db.models import Min

from workflow_engine.bootstrap import create_run, get_kernel, use_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.context import In, Out
from workflow_engine.definitions.registry import registered_workflows, registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.wait import RunResult, result_of
from workflow_engine.kernel import create_kernel
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN, StageStatus

from .clock import FakeClock
from .kernels import SilentTransport

MAX_ROUNDS = 1_000


def run_workflow(workflow: Workflow[In, Out] | str, input: Any = None, **options: Any) -> RunResult[Out]:
    """Create a run, drive it to its end in this thread, and return how it ended.

    Works inside ``TestCase``. Its clock starts at the present and jumps over retries' waits.

    Raises:
        AssertionError: the run cannot go on (the text says what it waits for).
    """
    ports = get_kernel().ports
    clock = FakeClock(ports.clock.now())
    kernel = create_kernel(
        using=ports.using, clock=clock, transport=SilentTransport(), blobs=ports.blobs, limits=ports.limits
    )
    extra = [workflow] if isinstance(workflow, Workflow) and workflow not in registered_workflows() else []
    with use_kernel(kernel), registry_override(*extra, keep=True):
        run = create_run(workflow, input, **options)
        host = InlineHost(kernel)
        for _ in range(MAX_ROUNDS):
            host.drain(run.pk)
            run = WorkflowRun.objects.using(ports.using).select_related("data").get(pk=run.pk)
            if run.status in FINISHED_RUN:
                return result_of(run)
            due = _next_due(run)
            assert due is not None, f"run {run.pk} is {run.status} and nothing of it is due, ever"
            clock.move_to(due)
    raise AssertionError(f"run {run.pk} is still {run.status} after {MAX_ROUNDS} rounds")


def _next_due(run: WorkflowRun) -> Any:
    rows = StageRun.objects.using(run._state.db).filter(run=run, status=StageStatus.PENDING)
    return rows.aggregate(due=Min("due_at"))["due"] or (run.due_at if run.started_at is None else None)
