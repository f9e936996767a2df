"""``run_workflow``: a whole run inside one test, without worker, thread or Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Min

from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.context import In, Out
from workflow_engine.definitions.registry import registered_workflows, registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.wait import RunResult, result_of
from workflow_engine.kernel import create_kernel
from workflow_engine.kernel.commands import ExpireRuns
from workflow_engine.models import RunNotice, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK
from workflow_engine.models.runs import family
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.running import answer_stage, create_run
from workflow_engine.statuses import FINISHED_RUN, NoticeKind, StageStatus, WaitKind

from .clock import FakeClock
from .kernels import SilentTransport

MAX_ROUNDS = 1_000


def run_workflow(
    workflow: Workflow[In, Out] | str, input: Any = None, *, answers: Mapping[str, Any] | None = None, **options: Any
) -> RunResult[Out]:
    """Create a run, drive it to its end in this thread, and return how it ended.

    Works inside ``TestCase``. Its clock starts at the present and jumps over timers, checks' and retries' waits, and to
    the run's deadline.

    Args:
        answers: name of a wait -> the answer that is given as soon as a stage waits for it. A wait that is not named
            comes to its deadline.
        options: as of ``create_run``.

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
            if (run := go_on(host, run, clock, answers or {})).status in FINISHED_RUN:
                return result_of(run)
    raise AssertionError(f"run {run.pk} is still {run.status} after {MAX_ROUNDS} rounds")


def go_on(host: InlineHost, run: WorkflowRun, clock: FakeClock, answers: Mapping[str, Any]) -> WorkflowRun:
    """Do what is due of a run, then answer it or move the clock to what comes next; return the run as it is then.

    Raises:
        AssertionError: it cannot go on.
    """
    kernel = host.kernel
    kernel.dispatch(ExpireRuns(run_id=run.pk))
    host.drain(run.pk)
    run = WorkflowRun.objects.using(kernel.ports.using).select_related("data").get(pk=run.pk)
    if run.status not in FINISHED_RUN and not _answer(run, answers):
        due = _next_due(run)
        assert due is not None, _why_stuck(run)
        clock.move_to(due)
    return run


def _answer(run: WorkflowRun, answers: Mapping[str, Any]) -> int:
    """Answer every stage of the run that waits for one of ``answers``; return how many."""
    given = 0
    for row in _suspended(run).filter(wait_kind=WaitKind.ANSWER, wait_name__in=list(answers)).in_order():
        answer_stage(row.run_id, row.stage, answers[row.wait_name], wait=row.wait_name, item=row.item_index)
        given += 1
    return given


def _suspended(run: WorkflowRun) -> StageRunQuerySet:
    return StageRun.objects.using(run._state.db).filter(family("run", run.pk), status=StageStatus.SUSPENDED)


def _next_due(run: WorkflowRun) -> Any:
    rows = StageRun.objects.using(run._state.db).filter(family("run", run.pk), status=StageStatus.PENDING)
    # Items are let go by others, and nothing is lost here that would have to be looked for.
    rows = rows.exclude(due_at=HELD_BACK)
    waiting = _suspended(run).exclude(wait_kind__in=(WaitKind.ITEMS, WaitKind.CHILD))
    times = [rows.aggregate(due=Min("due_at"))["due"], waiting.aggregate(due=Min("wake_at"))["due"]]
    runs = WorkflowRun.objects.using(run._state.db).filter(family("", run.pk)).open()
    times += [run.due_time for run in runs if run.started_at is None]
    # When a limit is to be looked at again.
    notices = RunNotice.objects.using(run._state.db).filter(family("run", run.pk), kind=NoticeKind.PLACE)
    times.append(notices.aggregate(due=Min("due_at"))["due"])
    times += [run.deadline_at for run in runs]
    return min((time for time in times if time is not None), default=None)


def _why_stuck(run: WorkflowRun) -> str:
    asking = _suspended(run).filter(wait_kind=WaitKind.ANSWER).order_by("stage", "wait_name")
    waits = [f"{name!r} of stage {stage!r}" for name, stage in asking.values_list("wait_name", "stage").distinct()]
    if waits:
        return f"run {run.pk} waits for the answer to {', '.join(waits)}: pass answers={{name: answer}}"
    return f"run {run.pk} is {run.status} and nothing of it is due, ever"
