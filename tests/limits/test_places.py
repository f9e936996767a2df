"""Who gets a place of a limit, and when; with a frozen clock, one command after the other."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from tests.janitors import pass_time, worker
from workflow_engine import NewRun, cancel_run, create_run, create_runs, pause_run, rerun_from, resume_run
from workflow_engine.admin.run_stages import notes_of
from workflow_engine.definitions import Limit, Rate, Workflow
from workflow_engine.definitions.registry import registry_override
from workflow_engine.errors import InvalidInput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ClaimPendingRuns, DeliverNotices, GivePlaces, Prune, ReapUnknown
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import LimitStart, RunLimit, RunNotice, RunPlace, StageRun, WorkflowRun
from workflow_engine.models.awaited import Awaited
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.testing import FakeClock

from .workflows import Order, by_tenant, limited, per_minute

Know = Callable[..., Any]


def claimed(kernel: Kernel) -> list[uuid.UUID]:
    """Give what places there are, and claim whatever may be claimed."""
    kernel.dispatch(DeliverNotices())
    return list(kernel.dispatch(ClaimPendingRuns()).claimed)


def start(workflow: Workflow[Any, Any], tenant: str | None = "acme", **options: Any) -> uuid.UUID:
    return create_run(workflow, {"tenant": tenant}, **options).pk


def status(run_id: uuid.UUID) -> str:
    return WorkflowRun.objects.get(pk=run_id).status


def test_no_more_runs_are_under_way_than_the_limit_says_and_the_next_begins_when_one_has_ended(
    kernel: Kernel, host: InlineHost, known: Know
) -> None:
    workflow = known(limited(Limit(2)))
    first, second, third, fourth = (start(workflow) for _ in range(4))

    assert claimed(kernel) == [first, second]
    assert claimed(kernel) == []
    host.drain(second)
    assert status(second) == "COMPLETED"
    assert claimed(kernel) == [third]
    cancel_run(first)
    assert claimed(kernel) == [fourth]
    host.drain()

    assert not RunPlace.objects.exclude(status="FREE").exists()
    assert not RunNotice.objects.exists()
    check_all()


def test_runs_of_one_key_never_hold_up_those_of_another(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    acme = [start(workflow, "acme") for _ in range(150)]
    other = start(workflow, "other")

    assert set(claimed(kernel)) == {acme[0], other}
    assert set(RunLimit.objects.values_list("key", flat=True)) == {"acme", "other"}


def test_keys_that_a_collation_takes_for_the_same_are_two(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    runs = [start(workflow, tenant) for tenant in ("acme", "ACME", "acmé", "acme ")]

    assert claimed(kernel) == runs


def test_a_run_whose_key_is_none_waits_for_nobody(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    runs = [start(workflow, None) for _ in range(3)]

    assert claimed(kernel) == runs
    assert not RunPlace.objects.exists()


def test_of_those_that_wait_the_higher_in_priority_goes_first_then_the_older(kernel: Kernel, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    low, early, late, high = (start(workflow, priority=priority) for priority in (1, 5, 5, 9))

    order = []
    while mine := claimed(kernel):
        order += mine
        cancel_run(mine[0])

    assert order == [high, early, late, low]


def test_a_run_that_fails_leaves_its_place(kernel: Kernel, host: InlineHost, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    bad = create_run(workflow, Order(fails=True)).pk
    good = start(workflow)

    host.drain()

    assert (status(bad), status(good)) == ("FAILED", "COMPLETED")


def test_a_run_that_starts_later_takes_no_place_before(kernel: Kernel, clock: FakeClock, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    later = start(workflow, run_at=clock.now() + timedelta(hours=1))
    now = start(workflow)

    assert claimed(kernel) == [now]
    assert "Not due before" in waiting_reason(WorkflowRun.objects.get(pk=later), clock.now())
    clock.advance(timedelta(hours=1))
    assert claimed(kernel) == []
    cancel_run(now)
    assert claimed(kernel) == [later]


def test_a_paused_run_gets_no_place_and_waits_for_its_turn_again_once_resumed(kernel: Kernel, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    first, second = start(workflow), start(workflow)
    pause_run(first)

    assert claimed(kernel) == [second]
    resume_run(first)
    assert claimed(kernel) == []
    cancel_run(second)
    assert claimed(kernel) == [first]


def test_a_run_that_is_cancelled_while_it_waits_takes_no_place_and_may_be_rerun(
    kernel: Kernel, host: InlineHost, known: Know
) -> None:
    workflow = known(limited(Limit(1)))
    first, second, third = (start(workflow) for _ in range(3))
    assert claimed(kernel) == [first]

    cancel_run(second)
    cancel_run(first)
    assert claimed(kernel) == [third]
    rerun_from(second, "load")
    assert status(second) == "RUNNING"
    host.drain(second)
    assert status(second) == "RUNNING"
    host.drain()

    assert (status(second), status(third)) == ("COMPLETED", "COMPLETED")
    check_all()


def test_a_rerun_waits_for_a_place_and_its_time_counts_from_there(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Know
) -> None:
    workflow = known(limited(Limit(1), timeout=timedelta(hours=1)))
    first = start(workflow)
    host.drain()
    second = start(workflow)
    assert claimed(kernel) == [second]

    rerun_from(first, "book")
    kernel.dispatch(DeliverNotices())
    row = WorkflowRun.objects.get(pk=first)
    assert (row.status, row.deadline_at) == ("RUNNING", None)
    assert "1 of 1 runs of limited are under way" in waiting_reason(row, clock.now())
    assert not host.take(first)

    clock.advance(timedelta(minutes=30))
    host.drain(second)
    kernel.dispatch(DeliverNotices())
    assert WorkflowRun.objects.get(pk=first).deadline_at == clock.now() + timedelta(hours=1)
    host.drain(first)
    assert status(first) == "COMPLETED"
    check_all()


def test_no_more_begin_within_a_span_than_the_rate_says(kernel: Kernel, clock: FakeClock, known: Know) -> None:
    workflow = known(by_tenant(None, rate=per_minute(2)))
    runs = [start(workflow) for _ in range(5)]
    other = start(workflow, "other")

    assert set(claimed(kernel)) == {*runs[:2], other}
    for run_id in runs[:2]:
        cancel_run(run_id)
    clock.advance(timedelta(seconds=59))
    assert claimed(kernel) == []
    reason = waiting_reason(WorkflowRun.objects.get(pk=runs[3]), clock.now())
    assert "2 may begin within 0:01:00" in reason
    assert "1 run goes before it" in reason
    clock.advance(timedelta(seconds=1))
    assert claimed(kernel) == runs[2:4]
    clock.advance(timedelta(seconds=60))
    assert claimed(kernel) == runs[4:]
    assert RunNotice.objects.count() == 0


def test_places_that_are_free_wait_for_the_rate(kernel: Kernel, clock: FakeClock, known: Know) -> None:
    workflow = known(limited(Limit(2, rate=per_minute(3))))
    runs = [start(workflow) for _ in range(4)]

    assert claimed(kernel) == runs[:2]
    clock.advance(timedelta(seconds=30))
    cancel_run(runs[0])
    cancel_run(runs[1])
    assert claimed(kernel) == [runs[2]]
    clock.advance(timedelta(seconds=30))
    assert claimed(kernel) == [runs[3]]


def test_the_limit_is_that_of_the_code_when_places_are_given(kernel: Kernel, known: Know) -> None:
    known(limited(Limit(2)))
    runs = [start(limited(Limit(2))) for _ in range(8)]
    assert claimed(kernel) == runs[:2]

    with registry_override(limited(Limit(1))):
        cancel_run(runs[0])
        assert claimed(kernel) == []
        cancel_run(runs[1])
        assert claimed(kernel) == [runs[2]]
    with registry_override(limited(Limit(3))):
        kernel.dispatch(GivePlaces())
        assert claimed(kernel) == runs[3:5]
    with registry_override(Workflow(**{**vars(limited(Limit(1))), "concurrency": None})):
        kernel.dispatch(GivePlaces())
        assert claimed(kernel) == runs[5:]


def test_what_no_notice_says_the_tick_finds(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    first, second, other = start(workflow), start(workflow), start(workflow, "other")
    assert set(claimed(kernel)) == {first, other}
    cancel_run(first)
    RunNotice.objects.all().delete()

    assert claimed(kernel) == []
    assert Orchestrator(kernel, claims=False).tick()["give_places"] == 1
    assert claimed(kernel) == [second]


def test_the_limits_are_looked_at_page_by_page(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    for number in range(5):
        start(workflow, f"tenant {number}"), start(workflow, f"tenant {number}")
    for run_id in claimed(kernel):
        cancel_run(run_id)
    RunNotice.objects.all().delete()

    given, place = [], ""
    while True:
        result = kernel.dispatch(GivePlaces(max=2, after=place))
        given.append(result.given)
        if result.place is None:
            break
        place = result.place

    assert given == [2, 2, 1]


def test_places_of_a_workflow_that_nobody_here_knows_are_given_once_it_is_known_again(
    kernel: Kernel, clock: FakeClock
) -> None:
    workflow = limited(Limit(1))
    with registry_override(workflow):
        run_id = start(workflow)
    with registry_override():
        assert claimed(kernel) == []
    clock.advance(timedelta(seconds=30))
    with registry_override(workflow):
        assert claimed(kernel) == [run_id]


def test_the_reason_why_a_run_waits_names_the_limit_its_key_and_who_goes_first(
    kernel: Kernel, clock: FakeClock, known: Know
) -> None:
    workflow = known(by_tenant(1))
    _, second, _, fourth = (start(workflow) for _ in range(4))
    claimed(kernel)

    text = waiting_reason(WorkflowRun.objects.get(pk=fourth), clock.now())

    assert text.startswith("Waits for a place: 1 of 1 runs of limited with the key acme are under way.")
    assert "2 runs go before it." in text
    assert "go before" not in waiting_reason(WorkflowRun.objects.get(pk=second), clock.now())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (lambda order: order.nothing, "its key function raised AttributeError"),
        (lambda order: True, "must be text, a whole number, a UUID or None, got True"),
        (lambda order: [order.tenant], "got ['acme']"),
        (lambda order: "", "must be printable text, got ''"),
        (lambda order: "a\0b", "must be printable text"),
    ],
)
def test_a_key_that_is_none_of_the_allowed_is_refused_and_nothing_is_written(
    kernel: Kernel, known: Know, key: Any, says: str
) -> None:
    workflow = known(limited(Limit(1, key=key)))

    with pytest.raises(InvalidInput, match=r"concurrency\.key") as refused:
        start(workflow)
    outcomes = create_runs([NewRun(workflow, {})])

    assert says in str(refused.value)
    assert "concurrency.key" in str(outcomes[0].error)
    assert not WorkflowRun.objects.exists()


def test_a_very_long_key_is_cut_and_still_its_own(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(1))
    runs = [start(workflow, "x" * 300 + end) for end in ("a", "b", "a")]

    assert claimed(kernel) == runs[:2]
    assert max(len(key) for key in RunLimit.objects.values_list("key", flat=True)) == 200


def test_many_runs_at_once_are_counted_each(kernel: Kernel, known: Know) -> None:
    workflow = known(by_tenant(2))
    made = create_runs([NewRun(workflow, {"tenant": name}) for name in ("a", "b", "a", "a")])

    assert set(claimed(kernel)) == {made[0].run_id, made[1].run_id, made[2].run_id}
    assert not StageRun.objects.filter(run=made[3].run_id).exists()


def test_a_run_that_is_rerun_begins_again_as_the_rate_counts(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Know
) -> None:
    workflow = known(limited(Limit(rate=per_minute(2))))
    run_id, ends = start(workflow), 0
    for _ in range(10):
        host.drain()
        if status(run_id) == "COMPLETED":
            ends += 1
            rerun_from(run_id, "load")
        clock.advance(timedelta(seconds=1))

    assert ends == 2
    assert LimitStart.objects.count() == 2
    clock.advance(timedelta(minutes=1))
    host.drain()
    assert status(run_id) == "COMPLETED"
    assert LimitStart.objects.count() == 1


@pytest.mark.parametrize("later", [True, False], ids=["later", "paused"])
def test_a_rate_is_not_looked_at_for_runs_that_may_not_begin(
    kernel: Kernel, clock: FakeClock, known: Know, later: bool
) -> None:
    workflow = known(limited(Limit(rate=Rate(1, per=timedelta(milliseconds=10)))))
    start(workflow)
    waiting = start(workflow, run_at=clock.now() + timedelta(hours=1) if later else None)
    if not later:
        pause_run(waiting)

    looks = 0
    for _ in range(50):
        looks += kernel.dispatch(DeliverNotices()).delivered
        clock.advance(timedelta(milliseconds=10))

    assert looks <= 3


def test_the_tick_finds_limits_that_nobody_has_looked_at_yet(kernel: Kernel, clock: FakeClock, known: Know) -> None:
    run_id = start(known(limited(Limit(1))))
    RunNotice.objects.all().delete()
    clock.advance(timedelta(hours=1))

    assert [one.code for one in examine(kernel.ports).findings] == ["limit.not_given"]
    assert kernel.dispatch(GivePlaces()).given == 1
    assert claimed(kernel) == [run_id]


def test_the_row_of_a_run_decides_about_its_rerun_and_not_the_code_of_who_asks(kernel: Kernel, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    first, second = start(workflow), start(workflow)
    claimed(kernel)
    cancel_run(first)
    assert claimed(kernel) == [second]

    with registry_override():
        rerun_from(first, "load")
    kernel.dispatch(DeliverNotices())

    assert RunPlace.objects.get(run=first).status == "WAITING"
    assert RunPlace.objects.held().count() == 1


def test_a_run_whose_workflow_is_gone_fails_after_the_grace_although_it_waits_for_a_place(
    kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    others = worker({"other": ["x"]})
    workflow = limited(Limit(1))
    with registry_override(workflow):
        again = start(workflow)
        host.drain()
        holder, waiting = start(workflow), start(workflow)
        kernel.dispatch(DeliverNotices())
        rerun_from(again, "load")
    with registry_override():
        for _ in range(3):
            kernel.dispatch(DeliverNotices())
            pass_time(kernel, clock, timedelta(hours=2), others)
            kernel.dispatch(ReapUnknown(lines=kernel.dispatch(GivePlaces()).unknown))

    assert {status(run_id) for run_id in (again, holder, waiting)} == {"FAILED"}
    assert WorkflowRun.objects.get(pk=again).error["code"] == "WORKFLOW_NOT_FOUND"
    assert not StageRun.objects.filter(status="PENDING").exists()
    check_all()


def test_the_graph_says_what_a_rerun_waits_for(kernel: Kernel, host: InlineHost, clock: FakeClock, known: Know) -> None:
    workflow = known(limited(Limit(1)))
    first = start(workflow)
    host.drain()
    start(workflow)
    claimed(kernel)
    rerun_from(first, "load")

    rows = list(StageRun.objects.current().filter(run=first, status="PENDING"))
    assert notes_of(rows, clock.now(), {}, Awaited(rows, "default")) == {"load": "when its run has a place"}


def test_a_limit_that_counts_no_run_any_more_is_forgotten_and_written_anew(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Know
) -> None:
    workflow = known(by_tenant(1, rate=per_minute(5)))
    start(workflow, "acme")
    kept = start(workflow, "other")
    host.drain()
    RunPlace.objects.exclude(run=kept).delete()
    day = timedelta(days=1)

    assert kernel.dispatch(Prune(what="limits", older_than=day)).deleted == 0
    clock.advance(2 * day)
    assert kernel.dispatch(Prune(what="limits", older_than=day)).deleted == 3

    assert [limit.key for limit in RunLimit.objects.all()] == ["other"]
    assert not LimitStart.objects.exists()
    assert claimed(kernel) == []
    run_id = start(workflow, "acme")
    assert claimed(kernel) == [run_id]
