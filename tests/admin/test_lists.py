from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import ATTACK, list_url, page_url
from workflow_engine import create_schedule, rerun_runs, run_schedule, schedule
from workflow_engine.admin.base import CappedPaginator, ReadOnlyAdmin
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CancelRun, CarryOutBulk, PauseWork
from workflow_engine.kernel.commands.beat import Beat, WorkerFacts
from workflow_engine.models import (
    DeadLetter,
    EventCursor,
    LimitStart,
    RunData,
    RunLimit,
    RunNotice,
    RunPlace,
    Schedule,
    ScheduledCommand,
    StageMap,
    StageMemo,
    WebhookDelivery,
    WebhookEndpoint,
    WorkerHeartbeat,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock

MODELS = [
    "workflowrun",
    "stagerun",
    "stageattempt",
    "stagemap",
    "stagememo",
    "runnotice",
    "workflowlog",
    "workflowartifact",
    "workflowannotation",
    "outboxevent",
    "idempotencykey",
    "workerheartbeat",
    "pause",
    "bulkoperation",
    "bulktarget",
    "eventcursor",
    "deadletter",
    "runlimit",
    "limitstart",
    "runplace",
    "schedule",
    "schedulefire",
    "scheduledcommand",
    "webhookdelivery",
]
# And those whose rows are written by people.
ALL_MODELS = [*MODELS, "webhookendpoint"]


@pytest.fixture
def full(make_run: Any, kernel: Any) -> WorkflowRun:
    """Put at least one row into every table."""
    facts = WorkerFacts(
        id=uuid.uuid4(), name="w1", host="h", pid=1, version="1", slots=4, workflows=("notes",), queues=("mail",)
    )
    kernel.dispatch(Beat(worker=facts, running={}))
    kernel.dispatch(PauseWork(scope="queue", name="other", reason=f"reason {ATTACK}", actor="ada"))
    run: WorkflowRun = make_run(options={"idempotency_key": "k", "annotations": {"by": ATTACK}})
    _remember(run)
    create_schedule("night", "notes", "0 1 * * *", input={"text": ATTACK}, actor=ATTACK)
    run_schedule("night")
    Schedule.objects.update(error=ATTACK, last_skipped_at=run.created_at, last_skipped_reason=ATTACK)
    schedule(CancelRun(run_id=run.pk, reason=ATTACK), run_at=run.created_at, correlation_id=ATTACK, actor=ATTACK)
    ScheduledCommand.objects.update(error=ATTACK)
    operation = rerun_runs([run, uuid.uuid4()], ATTACK[:90], actor=ATTACK, config={ATTACK: {}})
    kernel.dispatch(CarryOutBulk())
    assert operation.targets.filter(outcome="failed", message__contains="alert").exists()
    return run


def _remember(run: WorkflowRun) -> None:
    row = run.stage_runs.get()
    value = {"json": json.dumps(ATTACK)}
    StageMap.objects.create(stage_run=row, run=run, stage=ATTACK, generation=0, max_parallel=1, total=3, failed=1)
    heard = {"run": run, "subscriber": ATTACK, "tries": 1, "error": ATTACK}
    EventCursor.objects.create(**heard, last_sequence=1, target=2, due_at=run.created_at)
    DeadLetter.objects.create(**heard, sequence=1, type="run.created", died_at=run.created_at)
    facts = {"created_at": run.created_at, "updated_at": run.created_at, "disabled_at": run.created_at}
    hook = WebhookEndpoint.objects.create(
        url=f"https://example.com/{ATTACK}",
        description=ATTACK,
        events=[ATTACK],
        workflows=[ATTACK],
        secret="whsec_hush",
        active=False,
        disabled_reason=ATTACK,
        created_by=ATTACK,
        **facts,
    )
    WebhookDelivery.objects.create(
        endpoint=hook,
        event_id="a:1",
        type="run.created",
        run_id=run.pk,
        delivered=False,
        error=ATTACK,
        response=ATTACK,
        url=ATTACK,
        sent_at=run.created_at,
    )
    RunNotice.objects.create(run=run, sender=run.pk, kind="cancel", due_at=run.created_at)
    limit = RunLimit.objects.create(pk=run.pk.hex, workflow=ATTACK[:90], key=ATTACK, most=1)
    times = {"wanted_at": run.created_at, "rank_at": run.created_at, "priority": 5}
    LimitStart.objects.create(limit=limit, at=run.created_at)
    RunPlace.objects.create(run=run, limit=limit, workflow=ATTACK[:90], key=ATTACK, **times)
    StageMemo.objects.create(
        run=run, stage_run=row, kind="answer", name=ATTACK, actor=ATTACK, value=value, created_at=run.created_at
    )


def test_every_model_of_the_app_but_the_side_row_of_runs_has_a_page() -> None:
    registered = {model for model in admin.site._registry if model._meta.app_label == "workflow_engine"}

    hidden = set(apps.get_app_config("workflow_engine").get_models()) - registered

    assert {model._meta.model_name for model in hidden} <= {"rundata"}
    assert all(isinstance(admin.site._registry[model], ReadOnlyAdmin) for model in registered)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_list_and_a_row_are_shown_and_nothing_of_them_is_markup(model: str, full: WorkflowRun, chief: Client) -> None:
    row = apps.get_model("workflow_engine", model).objects.order_by("-pk").first()

    answers = [chief.get(list_url(model)), chief.get(page_url(row))]

    for answer in answers:
        assert answer.status_code == 200
        assert ATTACK not in answer.content.decode()
        assert " style=" not in answer.content.decode()


# Schedules are written by forms that dispatch commands.
@pytest.mark.parametrize("model", [model for model in MODELS if model != "schedule"])
def test_nobody_adds_changes_or_deletes_rows(model: str, full: WorkflowRun, chief: Client) -> None:
    row = apps.get_model("workflow_engine", model).objects.first()
    page = page_url(row)

    statuses = [
        chief.get(list_url(model) + "add/").status_code,
        chief.post(page, {}).status_code,
        chief.post(page.replace("change/", "delete/"), {"post": "yes"}).status_code,
        chief.post(
            list_url(model), {"action": "delete_selected", "_selected_action": [row.pk], "index": 0}
        ).status_code,
    ]

    assert statuses == [403, 403, 403, 403]
    assert type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", ALL_MODELS)
def test_staff_without_the_view_permission_sees_nothing(
    model: str, full: WorkflowRun, staff: Callable[..., Client]
) -> None:
    row = apps.get_model("workflow_engine", model).objects.first()
    client = staff()

    assert client.get(list_url(model)).status_code == 403
    assert client.get(page_url(row)).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_a_list_asks_the_database_as_often_for_many_rows_as_for_one(
    model: str, full: WorkflowRun, make_run: Callable[..., Any], kernel: Kernel, chief: Client
) -> None:
    # Filled by the first request of a process, whatever it shows.
    ContentType.objects.get_for_model(WorkflowRun)
    with CaptureQueriesContext(
        connection,
    ) as one:
        chief.get(list_url(model))
    for number in range(5):
        _remember(make_run(options={"idempotency_key": f"k{number}"}, fail=number % 2 == 0))
        facts = WorkerFacts(id=uuid.uuid4(), name="w", host="h", pid=1, version="1", slots=1)
        kernel.dispatch(Beat(worker=facts, running={}))

    with CaptureQueriesContext(connection) as many:
        chief.get(list_url(model))

    assert len(many) == len(one)


def test_a_list_leaves_large_columns_in_the_database(full: WorkflowRun, chief: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        chief.get(list_url("workflowrun"))
        chief.get(list_url("stageattempt"))

    text = " ".join(query["sql"] for query in queries)
    assert all(column not in text for column in ('"input"', '"config"', '"traceback"', "`input`", "`traceback`"))


def test_runs_are_found_by_their_exact_id_only(make_run: Callable[..., Any], chief: Client) -> None:
    run, other = make_run(), make_run()

    found = chief.get(list_url("workflowrun"), {"q": f" {run.pk} "}).content.decode()
    nothing = chief.get(list_url("workflowrun"), {"q": "notes"})

    assert str(run.pk) in found
    assert str(other.pk) not in found
    assert nothing.context["cl"].result_count == 0


def test_logs_are_found_by_the_id_of_their_run(make_run: Callable[..., Any], chief: Client) -> None:
    run, other = make_run(), make_run()

    page = chief.get(list_url("workflowlog"), {"q": str(run.pk)}).content.decode()

    assert WorkflowLog.objects.count() == 2
    assert page_url(run) in page
    assert page_url(other) not in page


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 2),
        ({"status__exact": "COMPLETED"}, 1),
        ({"status__exact": "FAILED"}, 1),
        ({"status__exact": "PENDING"}, 0),
        ({"workflow": "notes"}, 2),
        ({"created": "older"}, 0),
        ({"created": "nonsense"}, 2),
        ({"o": "3.-1"}, 2),
    ],
)
def test_runs_are_filtered(query: Any, count: int, make_run: Callable[..., Any], chief: Client) -> None:
    make_run()
    make_run(fail=True)

    answer = chief.get(list_url("workflowrun"), query)

    assert answer.context["cl"].result_count == count


@pytest.mark.parametrize(("choice", "days"), [("hour", [0]), ("week", [0, 2]), ("month", [0, 2, 20]), ("older", [40])])
def test_runs_are_filtered_by_their_age(
    choice: str, days: Any, chief: Client, kernel: Kernel, clock: FakeClock
) -> None:
    expected = {_run_of_age(clock.now(), age).pk: age for age in (0, 2, 20, 40)}

    answer = chief.get(list_url("workflowrun"), {"created": choice})

    assert sorted(expected[run.pk] for run in answer.context["cl"].result_list) == days


def _run_of_age(now: Any, days: int) -> WorkflowRun:
    when = now - timedelta(days=days, minutes=1)
    pk = uuid.UUID(int=int(when.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)
    run = WorkflowRun.objects.create(id=pk, workflow="notes", created_at=when, due_at=when, rank_at=when)
    RunData.objects.create(run=run, plan={"groups": []}, config={}, input={"json": "null"})
    return run


def test_the_count_of_a_list_stops_at_a_limit(make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        make_run(drain=False)
    monkeypatch.setattr(CappedPaginator, "cap", 2)

    pages = CappedPaginator(WorkflowRun.objects.order_by("-pk"), 50)

    assert pages.count == 2


def test_a_worker_without_a_valid_lease_is_shown_as_lost(full: WorkflowRun, chief: Client) -> None:
    WorkerHeartbeat.objects.update(lease_until=WorkerHeartbeat.objects.get().started_at - timedelta(days=1))

    assert "Lost" in chief.get(list_url("workerheartbeat")).content.decode()


@pytest.mark.parametrize(("silent_for", "state"), [(0, "Stopped"), (3, "Died")])
def test_a_worker_that_died_is_told_from_one_that_has_stopped(
    full: WorkflowRun, chief: Client, silent_for: int, state: str
) -> None:
    row = WorkerHeartbeat.objects.get()
    WorkerHeartbeat.objects.update(stopped_at=row.beat_at + timedelta(seconds=silent_for))

    assert f">{state}<" in chief.get(list_url("workerheartbeat")).content.decode()


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("webhookendpoint", "secret__startswith"),
        ("webhookendpoint", "previous_secret__regex"),
        ("idempotencykey", "result__contains"),
        ("bulkoperation", "arguments__contains"),
        ("stagerun", "output__contains"),
        ("workflowrun", "data__input__contains"),
    ],
)
def test_nobody_asks_by_the_address_for_what_the_list_does_not_show(
    model: str, lookup: str, full: WorkflowRun, chief: Client
) -> None:
    assert chief.get(list_url(model), {lookup: "whsec_"}).status_code == 400
