"""``Prune``: what is old goes, and what somebody may still need stays."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from pydantic import BaseModel

from tests.bulk.operations import carry_out
from tests.families import Family
from tests.invariants import check_all
from tests.maps import Importer
from tests.outbox.letters import dead_letter
from tests.workflows import chain, failing
from workflow_engine import Trigger, cancel_bulk, cancel_runs, create_run, rerun_from
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import InvalidInput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.pruner import Pruner, rules
from workflow_engine.kernel import Kernel, pruning
from workflow_engine.kernel.commands import Prune, PruneResult
from workflow_engine.kernel.commands.beat import Beat, WorkerFacts
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import (
    BulkOperation,
    BulkTarget,
    EventCursor,
    IdempotencyKey,
    OutboxEvent,
    StageRun,
    WorkerHeartbeat,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Page(BaseModel):
    text: str = ""


@stage("notes")
def notes(ctx: StageContext[Page]) -> Page:
    ctx.log.info("noted")
    ctx.annotate(Trigger.SOURCE, "test")
    ctx.artifact("page.txt", "p" * 100)
    return ctx.input


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    known(
        chain(2),
        failing(),
        Importer().workflow,
        define_workflow("notes", input=Page).pipe(notes).pipe(chain_end).build(),
    )


@stage("end")
def chain_end(ctx: StageContext[Page]) -> Page:
    return ctx.input


def prune(kernel: Kernel, what: str, **given: Any) -> PruneResult:
    return kernel.dispatch(Prune(what=what, **{"older_than": DAY, **given}))


def left() -> dict[str, int]:
    """Return how many rows each table has, those of workers and pauses left out."""
    models = apps.get_app_config("workflow_engine").get_models()
    counts = {model.__name__: model._default_manager.count() for model in models}
    return {name: count for name, count in counts.items() if count and name != "WorkerHeartbeat"}


def ended(host: InlineHost, workflow: str = "chain", input: Any = None, **options: Any) -> WorkflowRun:
    run = create_run(workflow, {"value": 1} if input is None else input, **options)
    host.drain(run.pk)
    run.refresh_from_db()
    assert run.finished_at is not None
    return run


def test_a_run_goes_with_everything_that_belongs_to_it(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run = ended(host, "notes", {"text": "x" * 100_000}, idempotency_key="k")
    ended(host, "importer", 3)
    blobs = kernel.ports.blobs
    assert blobs.list(f"runs/{run.pk}/")
    clock.advance(8 * DAY)

    result = prune(kernel, "runs")

    assert (result.deleted, result.place) == (2, None)
    assert left() == {}
    assert blobs.list("") == []


def test_younger_and_open_runs_stay(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    old = ended(host)
    opened = create_run("chain", {"value": 1})
    clock.advance(DAY)
    young = ended(host)
    clock.advance(timedelta(seconds=1))

    assert prune(kernel, "runs").deleted == 1

    assert set(WorkflowRun.objects.values_list("pk", flat=True)) == {opened.pk, young.pk}
    assert not StageRun.objects.filter(run=old.pk).exists()
    check_all()


@pytest.mark.parametrize(("statuses", "kept"), [(("COMPLETED",), "FAILED"), (("FAILED",), "COMPLETED")])
def test_only_runs_that_ended_so(
    kernel: Kernel, host: InlineHost, clock: FakeClock, statuses: tuple[str, ...], kept: str
) -> None:
    ended(host), ended(host, "failing")
    clock.advance(2 * DAY)

    assert prune(kernel, "runs", statuses=statuses).deleted == 1

    assert WorkflowRun.objects.get().status == kept


def test_a_run_stays_while_a_subscriber_has_not_heard_of_it(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run = ended(host)
    waiting = EventCursor.objects.create(run=run, subscriber="s", last_sequence=1, target=2, due_at=clock.now())
    clock.advance(2 * DAY)
    assert prune(kernel, "runs").deleted == prune(kernel, "events").deleted == 0
    waiting.delete()
    OutboxEvent.objects.filter(run=run, sequence=1).update(pending=True)
    assert prune(kernel, "runs").deleted == prune(kernel, "events").deleted == 0
    OutboxEvent.objects.update(pending=False)

    assert prune(kernel, "runs").deleted == 1


def test_a_run_stays_while_a_dead_letter_of_it_is_to_be_delivered_again(
    kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    letter = dead_letter(ended(host))
    letter.replay_at = clock.now()
    letter.save()
    clock.advance(2 * DAY)
    assert prune(kernel, "runs").deleted == 0
    letter.replay_at = None
    letter.save()

    assert prune(kernel, "runs").deleted == 1


def test_a_run_stays_as_long_as_its_key(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run = ended(host, idempotency_key="k")
    clock.advance(6 * DAY)
    assert prune(kernel, "runs").deleted == prune(kernel, "keys").deleted == 0
    assert create_run("chain", {"value": 1}, idempotency_key="k").pk == run.pk
    clock.advance(2 * DAY)

    assert prune(kernel, "runs").deleted == 1

    assert not IdempotencyKey.objects.exists()


def test_a_child_stays_while_the_run_that_started_it_goes_on(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Any
) -> None:
    family = Family()
    known(*family.workflows)
    run = create_run("parent", 1)
    host.drain(run.pk)
    child = WorkflowRun.objects.get(parent_run=run)
    WorkflowRun.objects.filter(pk=run.pk).update(status="RUNNING", finished_at=None)
    clock.advance(2 * DAY)
    assert prune(kernel, "runs").deleted == 0
    WorkflowRun.objects.filter(pk=run.pk).update(status="COMPLETED", finished_at=child.finished_at)

    assert prune(kernel, "runs").deleted == 2


def test_a_child_that_stays_is_nobodys_once_the_run_that_started_it_is_gone(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Any
) -> None:
    family = Family()
    known(*family.workflows)
    run = create_run("parent", 1)
    host.drain(run.pk)
    child = WorkflowRun.objects.get(parent_run=run)
    clock.advance(2 * DAY)
    WorkflowRun.objects.filter(pk=child.pk).update(finished_at=clock.now())

    assert prune(kernel, "runs").deleted == 1

    child.refresh_from_db()
    assert (child.parent_run_id, child.parent_stage_run_id, child.root_run_id) == (None, None, None)
    rerun_from(child, "last")
    host.drain(child.pk)
    child.refresh_from_db()
    assert child.status == "COMPLETED"
    check_all()


def test_events_go_as_a_whole_and_nothing_else(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run, needed = ended(host), ended(host)
    dead_letter(needed)
    count = run.event_seq
    clock.advance(2 * DAY)

    assert prune(kernel, "events").deleted == count

    assert set(OutboxEvent.objects.values_list("run", flat=True)) == {needed.pk}
    assert WorkflowRun.objects.count() == 2
    assert examine(kernel.ports).findings == ()


def test_a_run_whose_events_are_gone_can_be_rerun(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run = ended(host)
    clock.advance(2 * DAY)
    prune(kernel, "events")

    rerun_from(run, "add-2")
    assert [finding.code for finding in examine(kernel.ports).findings] == []
    host.drain(run.pk)

    assert OutboxEvent.objects.filter(run=run).earliest("sequence").sequence == run.event_seq + 1
    assert examine(kernel.ports).findings == ()


def test_log_lines_go_by_their_age(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    ended(host, "notes", {})
    clock.advance(2 * DAY)
    ended(host, "notes", {})

    assert prune(kernel, "logs").deleted == 1
    assert WorkflowLog.objects.count() == 1


def test_keys_go_once_their_run_is_gone(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    ended(host, idempotency_key="kept")
    IdempotencyKey.objects.create(
        digest="0" * 64, command="c", request_hash="", result={}, run_id=uuid.uuid4(), created_at=clock.now()
    )
    clock.advance(2 * DAY)

    assert prune(kernel, "keys", max=1).place is not None
    assert prune(kernel, "keys").deleted == 0

    assert IdempotencyKey.objects.count() == 1


def test_workers_that_are_gone_go(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    for _ in range(3):
        facts = WorkerFacts(id=uuid.uuid4(), name="w", host="h", pid=1, version="1", slots=1)
        kernel.dispatch(Beat(worker=facts, running={}))
    holding = WorkerHeartbeat.objects.earliest("pk")
    create_run("chain", {"value": 1})
    host.take()
    StageRun.objects.update(worker=holding.pk)
    clock.advance(2 * DAY)

    assert prune(kernel, "workers").deleted == 2
    assert WorkerHeartbeat.objects.get() == holding


def test_bulk_operations_go_with_their_targets_once_they_have_ended(
    kernel: Kernel, host: InlineHost, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "TARGETS_AT_ONCE", 2)
    runs = [ended(host) for _ in range(5)]
    for _ in range(3):
        cancel_runs(runs)
    carry_out(kernel)
    clock.advance(2 * DAY)
    young, opened = cancel_runs(runs), cancel_runs(runs)
    cancel_bulk(young)

    assert prune(kernel, "bulk", dry_run=True).deleted == 3
    first = prune(kernel, "bulk", max=2)
    second = prune(kernel, "bulk", max=2, after=first.place)

    assert (first.deleted, second.deleted, second.place) == (2, 1, None)
    assert set(BulkOperation.objects.all()) == {young, opened}
    assert BulkTarget.objects.count() == 10
    carry_out(kernel)


@pytest.mark.parametrize("what", ["runs", "events", "logs", "workers"])
def test_page_by_page_everything_goes(kernel: Kernel, host: InlineHost, clock: FakeClock, what: str) -> None:
    for _ in range(5):
        ended(host, "notes", {})
        facts = WorkerFacts(id=uuid.uuid4(), name="w", host="h", pid=1, version="1", slots=1)
        kernel.dispatch(Beat(worker=facts, running={}))
    clock.advance(2 * DAY)
    command, pages = Prune(what=what, older_than=DAY, max=2), 0

    while (result := kernel.dispatch(command)).place is not None:
        assert result.deleted > 0
        command, pages = Prune(what=what, older_than=DAY, max=2, after=result.place), pages + 1

    assert pages == 2
    table = {"runs": WorkflowRun, "events": OutboxEvent, "logs": WorkflowLog, "workers": WorkerHeartbeat}[what]
    assert not table._default_manager.exists()


@pytest.mark.parametrize("what", ["runs", "events", "logs", "keys", "workers"])
def test_a_dry_run_deletes_nothing(kernel: Kernel, host: InlineHost, clock: FakeClock, what: str) -> None:
    ended(host, "notes", {})
    IdempotencyKey.objects.create(digest="0", command="c", request_hash="", result={}, created_at=clock.now())
    kernel.dispatch(
        Beat(worker=WorkerFacts(id=uuid.uuid4(), name="w", host="h", pid=1, version="1", slots=1), running={})
    )
    clock.advance(2 * DAY)
    before = left()

    assert prune(kernel, what, dry_run=True).deleted == 1
    assert left() == before


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"what": "rows"},
            "what: must be one of events, logs, runs, keys, workers, bulk, schedules, deliveries, limits, blobs, "
            "got 'rows'",
        ),
        ({"older_than": -DAY}, "older_than: must be 0 or more"),
        ({"statuses": ("RUNNING",)}, "statuses: must be of COMPLETED, FAILED, CANCELLED, got RUNNING"),
    ],
)
def test_wrong_arguments_are_refused(kernel: Kernel, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        kernel.dispatch(Prune(**{"what": "runs", "older_than": DAY, **given}))


def test_a_pass_of_a_worker_does_what_the_settings_say(
    kernel: Kernel, host: InlineHost, clock: FakeClock, settings: Any
) -> None:
    settings.WORKFLOW_ENGINE = {"RETENTION": {"runs": {"COMPLETED": 30, "FAILED": None}, "logs": 10}}
    assert [(rule.what, rule.older_than.days, rule.statuses) for rule in rules() if rule.what == "runs"] == [
        ("runs", 30, ("COMPLETED",))
    ]
    ended(host, "notes", {}), ended(host, "failing")
    pruner = Pruner(kernel, batch=1)
    assert pruner.step() >= 600
    clock.advance(31 * DAY)

    while pruner.step() < 3600:
        pass

    assert [run.status for run in WorkflowRun.objects.all()] == ["FAILED"]
    assert not WorkflowLog.objects.exists()
    assert not OutboxEvent.objects.exists()
