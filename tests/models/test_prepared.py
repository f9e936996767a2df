"""Statements that PostgreSQL plans once for all their parameters, while the tables are still empty."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from workflow_engine.bootstrap import get_kernel
from workflow_engine.models import EventCursor, OutboxEvent, StageRun, WorkflowRun, deliveries_at_once
from workflow_engine.models.base import DbNow
from workflow_engine.models.guarded import _one_statement
from workflow_engine.statuses import StageStatus

# The others plan each statement for its parameters.
pytestmark = [pytest.mark.django_db, pytest.mark.postgresql]


@pytest.fixture(autouse=True)
def generic_plans() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
        # As on the first day, whatever earlier tests have left: the planner looks at how large a table's file is.
        tables = ", ".join(model._meta.db_table for model in (WorkflowRun, StageRun, OutboxEvent, EventCursor))
        cursor.execute(f"TRUNCATE {tables} CASCADE")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")


def plan_of(sql: str, params: Any) -> str:
    """Prepare a statement and return its plan."""
    with connection.cursor() as cursor:
        places = iter(range(1, len(params) + 1))
        cursor.execute("PREPARE looked_at AS " + re.sub("%s", lambda _: f"${next(places)}", sql).replace("%%", "%"))
        given = f"({', '.join(['%s'] * len(params))})" if params else ""
        cursor.execute(f"EXPLAIN EXECUTE looked_at{given}", list(params))
        plan = "\n".join(line for (line,) in cursor.fetchall())
    return plan


def plan_of_rows(rows: QuerySet[Any]) -> str:
    return plan_of(*rows.values_list("pk").query.get_compiler(connection=connection).as_sql())


def due_stages() -> QuerySet[Any]:
    return StageRun.objects.startable(DbNow(), None, ["one", "two"])[:1]


def claimable_runs() -> QuerySet[Any]:
    return WorkflowRun.objects.claimable(DbNow(), ["one", "two"])[:1]


def due_waits() -> QuerySet[Any]:
    return StageRun.objects.waking(DbNow())[:1]


def overdue_runs() -> QuerySet[Any]:
    return WorkflowRun.objects.overdue(DbNow())[:1]


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (due_stages, "wfe_stage_due"),
        (claimable_runs, "wfe_run_claim"),
        (due_waits, "wfe_stage_wake"),
        (overdue_runs, "wfe_run_(deadline|running)"),
    ],
)
def test_what_is_due_is_read_from_its_index(rows: Any, index: str) -> None:
    plan = plan_of_rows(rows())

    assert re.search(f"using {index} ", plan), plan
    assert "Seq Scan" not in plan, plan


def test_many_stages_are_changed_by_their_ids() -> None:
    sql = _one_statement(StageRun, ("status", "worker", "started_at"), (), ("token",), get_kernel().ports.using)

    plan = plan_of(sql, [StageStatus.RUNNING, uuid.uuid4(), timezone.now(), "[]"])

    assert "using workflow_engine_stagerun_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("workflow", ["''", deliveries_at_once._WORKFLOW])
def test_events_are_handed_on_by_their_indexes(workflow: str) -> None:
    plan = plan_of(deliveries_at_once._HAND_ON.format(most=500, workflow=workflow), ["[]"])

    assert "using wfe_event_pending" in plan, plan
    assert "using workflow_engine_outboxevent_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_deliveries_are_claimed_by_their_indexes() -> None:
    plan = plan_of(
        deliveries_at_once._CLAIM.format(most=50, window=200), ["sink", 5.0, ["run.created"], ["run.created"]]
    )

    assert "using wfe_cursor_due" in plan, plan
    assert "using wfe_event_sequence" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_deliveries_that_have_ended_are_deleted_by_their_ids() -> None:
    plan = plan_of(deliveries_at_once._END, ["[]"])

    assert plan.count("using workflow_engine_eventcursor_pkey") == 2, plan
    assert "Seq Scan" not in plan, plan
