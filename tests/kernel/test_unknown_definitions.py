"""What no living worker knows waits out a grace, as a deploy may be under way; then it fails."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all, events
from tests.janitors import begin, pass_time, worker
from tests.waits import batch, purchase
from tests.workflows import chain
from workflow_engine import Completion, answer_stage, create_run
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Beat, ClaimPendingRuns, ReapUnknown, StartStages
from workflow_engine.kernel.commands.reap_unknown import ReapUnknownResult
from workflow_engine.models import OutboxEvent, Pause, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.testing import FakeClock

HALF, GRACE = timedelta(minutes=30), timedelta(hours=1)
WHOLE = worker({"chain": ["add-1", "add-2"], "other": []})
OTHER = worker({"other": ["x"]})
OLD = worker({"chain": ["add-9"]})


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2))


def reap(kernel: Kernel) -> ReapUnknownResult:
    return kernel.dispatch(ReapUnknown())


def test_a_run_whose_workflow_nobody_knows_fails_after_the_grace(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    pass_time(kernel, clock, timedelta(0), OTHER)

    assert reap(kernel).marked == (run.pk,)
    pass_time(kernel, clock, GRACE - timedelta(seconds=1), OTHER)
    assert reap(kernel).failed == ()
    pass_time(kernel, clock, timedelta(seconds=1), OTHER)
    assert reap(kernel).failed == (run.pk,)
    assert reap(kernel).failed == ()

    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "WORKFLOW_NOT_FOUND", None)
    assert "'chain'" in run.error["message"]
    assert "3600 seconds (UNKNOWN_DEFINITION_GRACE_SECONDS)" in run.error["message"]
    assert events(run) == ["run.created", "run.failed"]
    check_all()


def test_a_stage_that_nobody_knows_fails_after_the_grace_and_with_it_its_run(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    (row,) = begin(kernel, run)
    pass_time(kernel, clock, timedelta(0), OLD)

    assert reap(kernel).marked == (row.pk,)
    pass_time(kernel, clock, GRACE, OLD)
    assert reap(kernel).failed == (row.pk,)

    run.refresh_from_db()
    row.refresh_from_db()
    assert (run.status, row.status) == ("FAILED", "FAILED")
    assert (run.error["code"], run.error["stage"]) == ("STAGE_NOT_FOUND", "add-1")
    assert "stage 'add-1' of workflow 'chain'" in run.error["message"]
    assert events(run)[-2:] == ["stage.failed", "run.failed"]
    check_all()


def test_a_stage_whose_whole_workflow_nobody_knows_says_so(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    for delta in (timedelta(0), GRACE):
        pass_time(kernel, clock, delta, OTHER)
        reap(kernel)

    run.refresh_from_db()
    assert (run.error["code"], run.error["stage"]) == ("WORKFLOW_NOT_FOUND", "add-1")


def test_a_worker_that_comes_back_ends_the_grace_and_a_later_one_begins_anew(kernel: Kernel, clock: FakeClock) -> None:
    waiting, begun = create_run("chain", {"value": 1}), create_run("chain", {"value": 2})
    (row,) = begin(kernel, begun)
    ids = {waiting.pk, row.pk}
    pass_time(kernel, clock, timedelta(0), OTHER)
    assert set(reap(kernel).marked) == ids
    pass_time(kernel, clock, HALF, OTHER, WHOLE)
    assert set(reap(kernel).cleared) == ids
    pass_time(kernel, clock, HALF, OTHER)
    assert set(reap(kernel).marked) == ids
    pass_time(kernel, clock, HALF, OTHER)

    assert reap(kernel).failed == ()
    assert not WorkflowRun.objects.filter(status="FAILED").exists()


def test_a_worker_that_comes_up_when_the_grace_is_over_still_saves_it(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)
    pass_time(kernel, clock, GRACE * 2, OTHER, WHOLE)

    result = reap(kernel)

    assert (result.failed, result.cleared) == ((), (run.pk,))


def test_without_any_living_worker_nothing_is_known_to_be_unknown(kernel: Kernel, clock: FakeClock) -> None:
    create_run("chain", {"value": 1})
    begin(kernel, create_run("chain", {"value": 1}))

    assert reap(kernel).marked == ()
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)
    clock.advance(GRACE * 3)
    assert reap(kernel).failed == ()


def test_the_first_worker_after_an_outage_is_not_the_judge(kernel: Kernel, clock: FakeClock) -> None:
    run, late = create_run("chain", {"value": 1}), worker({"other": []})
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)
    pass_time(kernel, clock, GRACE * 3, late)
    assert reap(kernel).failed == ()

    pass_time(kernel, clock, timedelta(minutes=5), late)

    assert reap(kernel).failed == (run.pk,)


def test_a_worker_of_an_older_engine_that_names_only_workflows_counts_as_knowing_their_stages(
    kernel: Kernel, clock: FakeClock
) -> None:
    begin(kernel, create_run("chain", {"value": 1}))
    pass_time(kernel, clock, timedelta(0), OLD)
    WorkerHeartbeat.objects.update(stages={})

    assert reap(kernel).marked == ()


def test_a_stage_put_off_by_a_worker_that_lacks_it_is_seen_all_the_same(
    kernel: Kernel, clock: FakeClock, known: Any
) -> None:
    (row,) = begin(kernel, create_run("chain", {"value": 1}))
    known_elsewhere = chain(1, "chain")
    StageRun.objects.update(stage="add-7")
    pass_time(kernel, clock, timedelta(0), worker({"chain": known_elsewhere.stage_ids}))
    assert kernel.dispatch(StartStages(starter=Starter(worker_id=WHOLE.id, slots=1))).deferred == 1

    assert reap(kernel).marked == (row.pk,)


def test_a_start_ends_the_grace(kernel: Kernel, clock: FakeClock) -> None:
    (row,) = begin(kernel, create_run("chain", {"value": 1}))
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)

    kernel.dispatch(StartStages(starter=Starter(worker_id=WHOLE.id, slots=1)))

    row.refresh_from_db()
    assert (row.status, row.unknown_since) == ("RUNNING", None)


def test_what_is_not_due_is_not_asked_about(kernel: Kernel, clock: FakeClock) -> None:
    create_run("chain", {"value": 1}, run_at=clock.now() + timedelta(days=2))
    begin(kernel, create_run("chain", {"value": 1}))
    StageRun.objects.update(due_at=clock.now() + timedelta(days=2), rank_at=clock.now() + timedelta(days=2))
    pass_time(kernel, clock, timedelta(0), OTHER)

    assert reap(kernel).marked == ()


def test_what_is_paused_is_not_failed_and_its_grace_begins_again(kernel: Kernel, clock: FakeClock) -> None:
    run, begun = create_run("chain", {"value": 1}), create_run("chain", {"value": 2})
    begin(kernel, begun)
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)
    WorkflowRun.objects.update(paused_at=clock.now())
    pass_time(kernel, clock, GRACE * 2, OTHER)
    assert reap(kernel).failed == ()
    WorkflowRun.objects.update(paused_at=None)
    for one in (run, begun):
        OutboxEvent.objects.create(
            run=one, sequence=90, generation=0, type="run.resumed", payload={},
            causation_id=run.pk, occurred_at=clock.now(),
        )  # fmt: skip

    assert len(reap(kernel).marked) == 2
    assert WorkflowRun.objects.filter(status="FAILED").count() == 0


def test_a_paused_workflow_or_queue_is_not_unknown(kernel: Kernel, clock: FakeClock) -> None:
    create_run("chain", {"value": 1})
    begin(kernel, create_run("chain", {"value": 2}))
    pass_time(kernel, clock, timedelta(0), OTHER)
    reap(kernel)
    Pause.objects.create(scope="workflow", name="chain", paused_at=clock.now())
    pass_time(kernel, clock, GRACE * 2, OTHER)

    result = reap(kernel)

    assert (len(result.cleared), result.failed) == (2, ())


def test_one_that_cannot_be_treated_hides_no_other(
    kernel: Kernel, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = create_run("chain", {"value": 1}), create_run("chain", {"value": 2})
    begin(kernel, bad), begin(kernel, good)
    # An event that is in the way of the next one.
    OutboxEvent.objects.create(
        run=bad, sequence=3, generation=0, type="x", payload={}, causation_id=bad.pk, occurred_at=clock.now()
    )
    for delta in (timedelta(0), GRACE):
        pass_time(kernel, clock, delta, OLD)
        result = reap(kernel)

    assert len(result.failed) == 1
    assert "unknown definition cannot be treated" in caplog.text


def test_a_beat_tells_the_stages_of_the_workers_code_those_that_are_retired_too(kernel: Kernel, known: Any) -> None:
    from tests.workflows import Number, add_stage
    from workflow_engine.definitions import define_workflow
    from workflow_engine.hosts.options import WorkerOptions, describe_worker

    flow = define_workflow("new", input=Number).pipe(add_stage("now")).retired(add_stage("before")).build()
    known(flow)

    facts = describe_worker(WHOLE.id, WorkerOptions(), 1, kernel.ports)
    kernel.dispatch(Beat(worker=facts, running={}))

    row = WorkerHeartbeat.objects.get()
    assert row.stages == {"chain": ["add-1", "add-2"], "new": ["now", "before"]}
    assert set(row.workflows) == set(row.stages)


def test_pages_of_a_queue_follow_each_other(kernel: Kernel, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    from workflow_engine.hosts.orchestrator import Orchestrator
    from workflow_engine.kernel.commands import reap_unknown

    monkeypatch.setattr(reap_unknown, "PAGE", 2)
    for number in range(5):
        create_run("chain", {"value": number})
    for _ in range(3):
        kernel.dispatch(ClaimPendingRuns(max_claims=1))
    pass_time(kernel, clock, timedelta(0), OTHER)
    orchestrator = Orchestrator(kernel, claims=False)

    counts = [orchestrator.seldom["reap_unknown"]() for _ in range(3)]

    assert counts == [4, 1, 0]


def suspended(kernel: Kernel, workflow: Workflow[Any, Any], known: Any, **input: Any) -> StageRun:
    """Return a stage that waits, for an answer or a check."""
    known(workflow)
    run = create_run(workflow, input or None)
    InlineHost(kernel).drain(run.pk)
    return StageRun.objects.get(run=run, status="SUSPENDED")


@pytest.mark.parametrize("kind", ["answer", "poll"])
def test_a_wait_that_is_over_and_that_nobody_knows_fails_after_the_grace(
    kernel: Kernel, clock: FakeClock, known: Any, kind: str
) -> None:
    if kind == "poll":
        row = suspended(kernel, batch(Completion.pending), known)
    else:
        row = suspended(kernel, purchase(), known, amount=500)
    pass_time(kernel, clock, timedelta(days=3), OTHER)

    assert reap(kernel).marked == (row.pk,)
    pass_time(kernel, clock, GRACE, OTHER)
    assert reap(kernel).failed == (row.pk,)

    run = row.run
    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "WORKFLOW_NOT_FOUND", row.stage)
    assert events(run)[-2:] == ["stage.failed", "run.failed"]
    check_all()


def test_a_check_that_is_known_again_has_its_whole_grace_the_next_time(
    kernel: Kernel, clock: FakeClock, known: Any
) -> None:
    row = suspended(kernel, batch(Completion.pending), known)
    pass_time(kernel, clock, timedelta(seconds=30), OTHER)
    assert reap(kernel).marked == (row.pk,)

    assert InlineHost(kernel).drain() == 1
    pass_time(kernel, clock, GRACE, OTHER)

    assert (reap(kernel).marked, reap(kernel).failed) == ((row.pk,), ())


def test_an_answer_that_is_given_after_all_begins_no_grace(kernel: Kernel, clock: FakeClock, known: Any) -> None:
    row = suspended(kernel, purchase(), known, amount=500)
    pass_time(kernel, clock, timedelta(days=3), OTHER)
    assert reap(kernel).marked == (row.pk,)

    answer_stage(row.run, "approve", {"outcome": "approved"})
    row.refresh_from_db()
    assert (row.status, row.unknown_since) == ("PENDING", None)
    assert InlineHost(kernel).drain() > 0
    check_all()
