"""Each rule of the doctor: a database that is wrong in one way gets just that code, and a healthy one gets none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from tests.families import Family
from tests.janitors import begin, set_stages
from tests.kernel import test_doctor
from tests.maps import Importer
from tests.workflows import chain, failing
from workflow_engine import cancel_run, create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.doctor import CODES, examine
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import (
    BulkOperation,
    BulkTarget,
    EventCursor,
    IdempotencyKey,
    OutboxEvent,
    RunData,
    RunNotice,
    RunPlace,
    Schedule,
    ScheduleFire,
    StageAttempt,
    StageMap,
    StageMemo,
    StageRun,
    WorkflowArtifact,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock
from workflow_engine.testing.clock import START
from workflow_engine.testing.invariants import check_invariants, find_violations

EARLIER = START - timedelta(hours=1)
Break = Callable[[WorkflowRun], object]


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2), failing(), Importer(max_parallel=3).workflow, *Family().workflows)


def ended(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = create_run("chain", {"value": 1}, idempotency_key="k")
    host.drain(run.pk)
    return run


def cancelled(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = begun(kernel, host)
    cancel_run(run)
    return run


def begun(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    return run


def running(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = create_run("chain", {"value": 1})
    host.take()
    return run


def mapping(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = create_run("importer", 8)
    pending: list[StartedStage] = []
    while not StageMap.objects.filter(done__gte=2).exists():
        pending = pending or host.take()
        pending += host.execute(pending.pop(0)).next
    return run


def child(kernel: Kernel, host: InlineHost) -> WorkflowRun:
    run = create_run("parent", 1)
    (started,) = host.take()
    host.execute(started)
    return WorkflowRun.objects.get(parent_run=run)


def add_event(run: WorkflowRun, kind: str, **payload: object) -> None:
    WorkflowRun.objects.filter(pk=run.pk).update(event_seq=F("event_seq") + 1)
    last = WorkflowRun.objects.get(pk=run.pk)
    OutboxEvent.objects.create(
        run=run,
        sequence=last.event_seq,
        generation=last.generation,
        type=kind,
        payload=payload,
        causation_id=uuid.uuid4(),
        occurred_at=START,
    )


def of_stage(run: WorkflowRun, kind: str, token: int) -> None:
    stage = StageRun.objects.get(run=run, stage="add-1")
    add_event(run, kind, stage_id="add-1", stage_run_id=str(stage.pk), token=token, attempt=1)


def turn(run: WorkflowRun, kind: str, stage: str, into: str) -> None:
    rows = OutboxEvent.objects.filter(run=run, type=kind)
    (row,) = [row for row in rows if not stage or row.payload["stage_id"] == stage]
    OutboxEvent.objects.filter(pk=row.pk).update(type=into)


def same_token(run: WorkflowRun) -> None:
    of_stage(run, "stage.retrying", 1)
    of_stage(run, "stage.started", 1)


def start_beside(run: WorkflowRun) -> None:
    of_stage(run, "stage.started", 2)
    run.stage_runs.update(token=2)


def try_token(run: WorkflowRun, **columns: object) -> None:
    facts: dict[str, object] = {"stage_run_id": run.stage_runs.get().pk, "token": 9, "outcome": "lost", **columns}
    StageAttempt.objects.create(run=run, stage="add-1", generation=0, attempt=1, finished_at=START, **facts)


def change_stage(stage: str, **columns: object) -> Break:
    return lambda run: run.stage_runs.filter(stage=stage).update(**columns)


def change_run(**columns: object) -> Break:
    return lambda run: WorkflowRun.objects.filter(pk=run.pk).update(**columns)


def plan_more(run: WorkflowRun) -> None:
    data = RunData.objects.get(run=run)
    data.plan["groups"].append({"stages": [{"id": "more", "queue": "default"}]})
    RunData.objects.filter(run=run).update(plan=data.plan)


def stop_items(run: WorkflowRun) -> None:
    counts = StageMap.objects.get(run=run)
    rows = StageRun.objects.filter(run=run, map_index__gte=0, status__in=("PENDING", "RUNNING"))
    number = rows.update(status="CANCELLED", finished_at=START, worker=None)
    StageMap.objects.filter(pk=counts.pk).update(cancelled=number, opened=counts.total)


def end_untold(run: WorkflowRun) -> None:
    cancel_run(run)
    RunNotice.objects.all().delete()


def artifacts(run: WorkflowRun, *keys: str) -> None:
    stage = run.stage_runs.get(stage="add-1")
    for number, key in enumerate(keys):
        WorkflowArtifact.objects.create(
            run=run, stage_run=stage, stage="add-1", name=str(number), size=1, sha256="", key=key, created_at=START
        )


def leave_target(run: WorkflowRun) -> None:
    done = {"status": "COMPLETED", "created_at": START, "finished_at": START}
    BulkTarget.objects.create(operation=BulkOperation.objects.create(kind="cancel", **done), run_id=run.pk)


def schedule(**columns: object) -> Schedule:
    facts: dict[str, object] = {"cron": "* * * * *", "created_at": START, "changed_at": START, "timezone": "UTC"}
    return Schedule.objects.create(name="s", workflow="chain", **facts | columns)


def fire(run: WorkflowRun) -> None:
    ScheduleFire.objects.create(schedule=schedule(enabled=False), due_at=START, state="started")


CASES: dict[str, tuple[Callable[[Kernel, InlineHost], WorkflowRun], str, Break]] = {
    "a run that started before it was made": (ended, "time.disordered", change_run(started_at=EARLIER)),
    "a run whose totals are wrong": (ended, "totals.wrong", change_run(total_tokens=7)),
    "a run that has not done what was planned": (ended, "run.incomplete", plan_more),
    "a run whose key answers with another": (
        ended,
        "key.wrong_run",
        lambda run: IdempotencyKey.objects.update(result={"run_id": str(uuid.uuid4())}),
    ),
    "a run with two keys": (
        ended,
        "key.wrong_run",
        lambda run: IdempotencyKey.objects.create(
            digest="x", command="run.create", result={"run_id": str(run.pk)}, run_id=run.pk, created_at=START
        ),
    ),
    "a run that ended otherwise": (ended, "events.wrong_end", lambda run: turn(run, "run.completed", "", "run.failed")),
    "a run that never ended": (
        ended,
        "events.no_end",
        lambda run: turn(run, "run.completed", "", "annotation.created"),
    ),
    "a run that ended twice": (ended, "events.two_ends", lambda run: add_event(run, "run.completed")),
    "a run that goes on after its end": (ended, "events.after_end", lambda run: add_event(run, "run.paused")),
    "an event of another generation": (
        ended,
        "events.disordered",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=3).update(generation=1),
    ),
    "a rerun that is none": (begun, "events.disordered", lambda run: add_event(run, "run.rerun")),
    "a gap": (
        ended,
        "events.gap",
        lambda run: OutboxEvent.objects.filter(run=run, type="run.started").delete(),
    ),
    "an end without a start": (
        ended,
        "events.no_start",
        lambda run: turn(run, "stage.started", "add-2", "annotation.created"),
    ),
    "a completion that nothing says": (
        ended,
        "stage.completions",
        lambda run: turn(run, "stage.completed", "add-1", "annotation.created"),
    ),
    "a stage that nobody has won": (
        ended,
        "stage.winner",
        lambda run: StageAttempt.objects.filter(run=run, stage="add-1").delete(),
    ),
    "a stage that another attempt has won": (ended, "stage.winner", change_stage("add-1", token=9)),
    "a stage without its output": (ended, "stage.output", change_stage("add-1", output=None)),
    "a stage that somebody still holds": (ended, "stage.held", change_stage("add-1", worker=uuid.uuid4())),
    "a stage that did not wait": (ended, "stage.too_early", change_stage("add-2", started_at=EARLIER)),
    "a stage that began before others had ended": (cancelled, "stage.too_early", lambda run: stage_after(run)),
    "a stage that is left open": (
        cancelled,
        "stage.open_in_ended_run",
        lambda run: set_stages(run, "PENDING", finished_at=None),
    ),
    "a stage that crashed too often": (ended, "budget.exceeded", change_stage("add-1", crashes=9)),
    "a row that counts no more": (
        ended,
        "generation.two_count",
        change_stage("add-1", superseded_at=START, token=F("token") + 1),
    ),
    "a stage ahead of its run": (begun, "generation.ahead", change_stage("add-1", generation=1)),
    "a wait without an end": (
        begun,
        "wait.without_time",
        change_stage("add-1", status="SUSPENDED", wait_kind="timer", suspended_at=START),
    ),
    "a run that nothing moves": (
        begun,
        "run.stuck",
        lambda run: set_stages(run, "CANCELLED", finished_at=START),
    ),
    "a token that was handed out twice": (running, "token.twice", same_token),
    "a token that nobody has handed out": (cancelled, "token.ahead", try_token),
    "two attempts at the same time": (running, "attempts.overlap", start_beside),
    "an attempt of no stage": (cancelled, "row.orphan", lambda run: try_token(run, stage_run_id=uuid.uuid4())),
    "an attempt of no run": (
        cancelled,
        "row.orphan",
        lambda run: StageAttempt.objects.create(
            run_id=uuid.uuid4(),
            stage_run_id=uuid.uuid4(),
            generation=0,
            attempt=1,
            token=1,
            outcome="lost",
            finished_at=START,
        ),
    ),
    "a key of no run": (ended, "row.orphan", lambda run: IdempotencyKey.objects.update(run_id=uuid.uuid4())),
    "a subscriber who hears of the future": (
        begun,
        "delivery.ahead",
        lambda run: EventCursor.objects.create(run=run, subscriber="x", last_sequence=0, target=99, due_at=START),
    ),
    "a text that is no JSON": (ended, "row.unreadable", change_stage("add-1", output={"json": "{"})),
    "a metric that is no number": (ended, "row.unreadable", change_stage("add-1", metrics={"cost": "much"})),
    "a plan that is none": (begun, "plan.broken", lambda run: RunData.objects.filter(run=run).update(plan={})),
    "a run that waits in no line": (
        lambda kernel, host: create_run("chain", {"value": 1}),
        "place.missing",
        change_run(due_at="9999-01-01T00:00:00Z"),
    ),
    "two rows with one blob": (
        ended,
        "blob.shared",
        lambda run: artifacts(run, *[f"runs/{run.pk}/a"] * 2),
    ),
    "a blob of another run": (ended, "blob.shared", lambda run: artifacts(run, f"runs/{uuid.uuid4()}/a")),
    "a map that counts wrongly": (mapping, "map.miscounted", lambda run: StageMap.objects.update(done=F("done") + 1)),
    "a map whose row is gone": (
        mapping,
        "map.miscounted",
        lambda run: StageRun.objects.filter(run=run, map_index=7).delete(),
    ),
    "a map with too many under way": (mapping, "map.too_many", lambda run: StageMap.objects.update(max_parallel=1)),
    "a map that waits for nothing": (mapping, "map.unheard", stop_items),
    "a child that nobody knows": (child, "child.unknown", lambda run: StageMemo.objects.all().delete()),
    "a child whose end nobody tells": (child, "child.not_told", end_untold),
    "an operation that has left something": (begun, "bulk.left", leave_target),
    "a schedule that nobody watches": (begun, "schedule.unwatched", lambda run: schedule(next_due_at=START)),
    "a time without its run": (begun, "fire.without_run", fire),
}


def stage_after(run: WorkflowRun) -> None:
    columns = {"stage_number": 1, "queue": "default", "due_at": START, "rank_at": START, "started_at": START}
    ended: dict[str, Any] = {"status": "CANCELLED", "finished_at": START}
    StageRun.objects.create(run=run, stage="add-2", group_number=2, **columns, **ended)


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_and_nothing_else(kernel: Kernel, host: InlineHost, case: str) -> None:
    make, code, damage = CASES[case]
    run = make(kernel, host)
    assert find_violations(quiet=False) == []
    damage(run)

    found = find_violations(quiet=False)

    assert {one.code for one in found} == {code}
    assert {one.severity for one in found} == {"violation"}
    assert code in {one.code for one in examine(kernel.ports).violations}


LEFT: dict[str, tuple[str, Break]] = {
    "a run": ("run.open", lambda run: None),
    "a notice": (
        "notice.left",
        lambda run: RunNotice.objects.create(run=run, sender=run.pk, kind="place", due_at=START),
    ),
    "an event": (
        "delivery.left",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=1).update(pending=True),
    ),
    "a cursor": (
        "delivery.left",
        lambda run: EventCursor.objects.create(run=run, subscriber="x", last_sequence=0, target=1, due_at=START),
    ),
    "an operation": ("bulk.open", lambda run: BulkOperation.objects.create(kind="cancel", created_at=START)),
    "a place": (
        "place.kept",
        lambda run: RunPlace.objects.create(
            run=run, limit_id="x", workflow="chain", wanted_at=START, rank_at=START, priority=5
        ),
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_is_wrong_only_where_all_work_is_done(kernel: Kernel, host: InlineHost, case: str) -> None:
    code, leave = LEFT[case]
    run = (begun if code == "run.open" else ended)(kernel, host)
    leave(run)

    assert {one.code for one in find_violations()} == {code}
    assert find_violations(quiet=False) == []


def test_a_blob_is_read_only_if_that_is_asked(kernel: Kernel, host: InlineHost) -> None:
    run = ended(kernel, host)
    lost, broken = (f"runs/{run.pk}/{name}" for name in ("lost", "broken"))
    kernel.ports.blobs.put(broken, b"b")
    artifacts(run, lost, broken)

    assert find_violations() == []
    assert [one.code for one in find_violations(blobs=True)] == ["blob.missing", "blob.corrupt"]
    assert [one.code for one in examine(kernel.ports, blobs=True).findings] == ["blob.missing", "blob.corrupt"]


def test_events_that_were_pruned_are_missed_only_if_that_is_asked(kernel: Kernel, host: InlineHost) -> None:
    run = ended(kernel, host)
    run.events.all().delete()

    assert find_violations() == []
    assert [one.code for one in find_violations(pruned=False)] == ["events.gap"]


def test_the_error_names_code_run_and_what_is_wrong(kernel: Kernel, host: InlineHost) -> None:
    run = ended(kernel, host)
    check_invariants()
    WorkflowRun.objects.filter(pk=run.pk).update(total_tokens=7)

    with pytest.raises(AssertionError, match=f"totals.wrong: run {run.pk}: The run's totals are cost"):
        check_invariants()


def test_only_the_runs_that_are_named_are_looked_at(kernel: Kernel, host: InlineHost) -> None:
    wrong, right = ended(kernel, host), begun(kernel, host)
    WorkflowRun.objects.filter(pk=wrong.pk).update(total_tokens=7)

    assert find_violations(runs=[right], quiet=False) == []
    assert [one.run_id for one in find_violations(runs=[wrong.pk, right], quiet=False)] == [wrong.pk]


def test_work_that_nobody_takes_is_told(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    begun(kernel, host)
    create_run("chain", {"value": 1})
    clock.advance(timedelta(minutes=11))

    found = {one.code: one.text for one in examine(kernel.ports).findings}

    assert found.keys() == {"work.not_taken", "run.not_claimed"}
    assert found["work.not_taken"].startswith("1 stages of the queue 'workflows' are due, the first since 20")


def test_a_small_database_is_asked_little(kernel: Kernel, host: InlineHost, django_assert_max_num_queries: Any) -> None:
    for number in range(4):
        create_run("chain", {"value": number})
    create_run("parent", 1)
    host.drain()

    with django_assert_max_num_queries(15):
        check_invariants()


@pytest.mark.one_database
def test_every_code_of_a_violation_has_a_test() -> None:
    known = {code for _, code, _ in CASES.values()} | {code for code, _ in test_doctor.OF_ENDED_RUNS.values()}
    known |= {code for code, severity, _ in test_doctor.OF_BEGUN_RUNS.values() if severity == "violation"}
    # The last is in the tests of maps.
    left = {code for code, _ in LEFT.values()} | {"blob.missing", "blob.corrupt", "map.item_left"}

    assert {code for code, of_it in CODES.items() if of_it.severity == "violation"} == known | left
