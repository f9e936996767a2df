from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from tests.invariants import events
from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions.results import Completed
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    FinishStages,
    Outcome,
    ReleaseStages,
    StartStages,
    TransitionRun,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import (
    OutboxEvent,
    StageAttempt,
    StageRun,
    WorkflowRun,
)
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock


def _take(kernel: Kernel, worker: uuid.UUID | None = None) -> StartedStage:
    starter = Starter(worker_id=worker or uuid.uuid4(), slots=1)
    return (
        kernel.dispatch(ClaimPendingRuns(starter=starter)).started
        or kernel.dispatch(StartStages(starter=starter)).started
    )[0]


def _complete(kernel: Kernel, started: StartedStage, value: int = 1) -> str:
    outcome = Outcome(started, Completed(inline({"value": value})), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def test_a_finished_attempt_cannot_finish_twice(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    started = _take(kernel)

    assert (_complete(kernel, started), _complete(kernel, started, 2)) == ("completed", "ghost")

    assert WorkflowRun.objects.get(pk=run.pk).get_output() == {"value": 1}
    assert events(run).count("stage.completed") == 1
    assert StageAttempt.objects.count() == 1


def test_a_late_attempt_cannot_overwrite_a_newer_one(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    worker = uuid.uuid4()
    old = _take(kernel, worker)
    kernel.dispatch(ReleaseStages(worker_id=worker, tokens={old.stage_run_id: old.token}))
    new = _take(kernel)

    assert (_complete(kernel, old, 111), _complete(kernel, new, 2)) == ("ghost", "completed")

    assert new.token > old.token
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == {"value": 2}
    assert [item.outcome for item in StageAttempt.objects.order_by("token")] == ["released", "completed"]
    assert StageRun.objects.get().failures == 0


def test_a_result_for_a_cancelled_run_is_dropped_whole(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(2)), {"value": 1})
    started = _take(kernel)
    assert cancel_run(run, reason="changed my mind", actor="anna")

    assert _complete(kernel, started) == "ghost"

    assert events(run)[-2:] == ["stage.cancelled", "run.cancelled"]
    row = StageRun.objects.get()
    assert (row.status, row.output) == ("CANCELLED", None)
    assert [item.outcome for item in StageAttempt.objects.all()] == ["cancelled"]
    assert OutboxEvent.objects.get(type="run.cancelled").payload["reason"] == "changed my mind"


def test_cancelling_twice_or_a_finished_run_answers_false(known: Any, host: InlineHost) -> None:
    workflow = known(chain(1))
    pending, finished = create_run(workflow, {"value": 1}), create_run(workflow, {"value": 1})
    assert cancel_run(pending)
    host.drain()

    assert not cancel_run(pending)
    assert not cancel_run(finished)
    assert WorkflowRun.objects.get(pk=finished.pk).status == "COMPLETED"


def test_a_stage_that_is_not_due_running_or_of_a_paused_run_is_not_started(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    starter = Starter(worker_id=uuid.uuid4(), slots=5)
    WorkflowRun.objects.filter(pk=run.pk).update(paused_at=clock.now())
    assert not kernel.dispatch(StartStages(starter=starter)).started
    WorkflowRun.objects.filter(pk=run.pk).update(paused_at=None)

    assert len(kernel.dispatch(StartStages(starter=starter)).started) == 1
    assert not kernel.dispatch(StartStages(starter=starter)).started


def test_a_paused_run_finishes_what_runs_and_starts_nothing_new(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run(known(chain(2)), {"value": 1})
    started = host.take()[0]
    WorkflowRun.objects.filter(pk=run.pk).update(paused_at=clock.now())

    finished = host.execute(started)

    assert (finished.kind, finished.next) == ("completed", ())
    assert StageRun.objects.get(stage="add-2").status == "PENDING"


def test_a_stage_that_the_code_no_longer_knows_is_deferred_not_failed(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    StageRun.objects.update(stage="of-the-next-release")

    result = kernel.dispatch(StartStages(starter=Starter(worker_id=uuid.uuid4(), slots=5)))

    assert (result.started, result.deferred) == ((), 1)
    assert StageRun.objects.get().due_at > clock.now()
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"


def test_transition_advances_a_settled_run_once_and_is_a_noop_otherwise(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(2)), {"value": 1})
    assert kernel.dispatch(TransitionRun(run_id=run.pk)).action == "noop"
    kernel.dispatch(ClaimPendingRuns())
    assert kernel.dispatch(TransitionRun(run_id=run.pk)).action == "noop"
    StageRun.objects.update(status="COMPLETED", finished_at="2026-01-01T00:00:00Z", output=inline({"value": 5}))

    assert kernel.dispatch(TransitionRun(run_id=run.pk)).action == "advanced"

    assert kernel.dispatch(TransitionRun(run_id=run.pk)).action == "noop"
    assert StageRun.objects.filter(stage="add-2", status="PENDING").count() == 1
