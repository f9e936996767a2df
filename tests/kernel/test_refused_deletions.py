"""Pruning what models of the project refer to: what may not go stays, and holds up nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models

from tests.invariants import check_all
from tests.management.calling import call
from workflow_engine import StageContext, create_run, define_workflow, stage
from workflow_engine.errors import DatabaseConflict
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.pruner import Pruner
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Prune
from workflow_engine.models import BulkOperation, WorkflowRun
from workflow_engine.models.base import DbNow
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


@contextmanager
def referring(model: type[models.Model], on_delete: Callable[..., Any]) -> Iterator[Any]:
    """Yield a model of another app with a foreign key, and a table of its own."""
    place = models.ForeignKey(model, on_delete, null=True, related_name="+")
    meta = type("Meta", (), {"app_label": "bookshop", "db_table": "test_order"})
    order = type("TestOrder", (models.Model,), {"__module__": __name__, "Meta": meta, "place": place})
    try:
        with connection.schema_editor() as editor:
            editor.create_model(order)
        yield order
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(order)
        del apps.all_models["bookshop"]["testorder"]
        apps.clear_cache()


@stage("echo")
def echo(ctx: StageContext[str]) -> str:
    return ctx.input


@pytest.fixture
def runs(known: Callable[..., Any], kernel: Kernel, host: InlineHost, clock: FakeClock) -> list[WorkflowRun]:
    known(define_workflow("echo", input=str).pipe(echo).build())
    runs = [create_run("echo", "x" * 100_000) for _ in range(5)]
    host.drain()
    clock.advance(2 * DAY)
    return runs


@pytest.mark.parametrize("on_delete", [models.PROTECT, models.RESTRICT, models.DO_NOTHING])
def test_a_run_that_may_not_go_stays_whole_and_the_others_go(
    kernel: Kernel, runs: list[WorkflowRun], on_delete: Any
) -> None:
    with referring(WorkflowRun, on_delete) as order:
        order.objects.create(place=runs[1])

        result = kernel.dispatch(Prune(what="runs", older_than=DAY))

        assert (result.deleted, result.kept, result.place) == (4, 1, None)
        assert result.refusal.startswith(f"{runs[1].pk}: ")
        assert WorkflowRun.objects.get() == runs[1]
        assert kernel.ports.blobs.folders("runs") == [str(runs[1].pk)]
        check_all()
        order.objects.all().delete()
        assert kernel.dispatch(Prune(what="runs", older_than=DAY)).deleted == 1
        assert kernel.ports.blobs.list("") == []


@pytest.mark.parametrize(("on_delete", "left"), [(models.CASCADE, 0), (models.SET_NULL, 1)])
def test_what_is_to_happen_to_those_that_refer_to_a_run_does(
    kernel: Kernel, runs: list[WorkflowRun], on_delete: Any, left: int
) -> None:
    with referring(WorkflowRun, on_delete) as order:
        order.objects.create(place=runs[1])

        result = kernel.dispatch(Prune(what="runs", older_than=DAY))

        assert (result.deleted, result.kept) == (5, 0)
        assert list(order.objects.values_list("place", flat=True)) == [None] * left


def test_the_daily_pass_goes_on_and_says_once_what_stays(
    kernel: Kernel, runs: list[WorkflowRun], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WORKFLOW_ENGINE = {"RETENTION": {"runs": 1, "bulk": 1}, "IDEMPOTENCY_KEEP_DAYS": 1}
    BulkOperation.objects.create(
        kind="cancel", status="COMPLETED", created_at=DbNow(), finished_at=kernel.ports.clock.now() - 2 * DAY
    )
    pruner = Pruner(kernel, batch=2)
    pruner.loop.turn()
    with referring(WorkflowRun, models.PROTECT) as order, caplog.at_level(logging.WARNING):
        order.objects.bulk_create(order(place=run) for run in runs[:3])

        while (wait := pruner.loop.turn() or 0) < 3600:
            assert pruner.loop.failures == 0

        assert wait > 0
        assert set(WorkflowRun.objects.all()) == set(runs[:3])
        assert not BulkOperation.objects.exists()
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(f"old runs cannot be deleted count=3 one={runs[0].pk}: ")


def test_the_command_tells_what_stays(runs: list[WorkflowRun]) -> None:
    with referring(WorkflowRun, models.PROTECT) as order:
        order.objects.create(place=runs[1])

        called = call("wfe_prune", "--what", "runs", "--older-than", "1d")

        assert called.code == 0
        assert called.lines[0] == "runs: 4 deleted"
        assert called.lines[1].startswith(f"runs: 1 cannot be deleted, such as {runs[1].pk}: ")
        kept = call("wfe_prune", "--what", "runs", "--older-than", "1d", "--json").json["kept"]
        assert (kept["runs"]["count"], kept["runs"]["one"][:36]) == (1, str(runs[1].pk))


def test_a_table_whose_rows_may_not_go_holds_up_no_other(
    kernel: Kernel, runs: list[WorkflowRun], clock: FakeClock
) -> None:
    ended = {"kind": "cancel", "status": "COMPLETED", "created_at": clock.now(), "finished_at": clock.now() - 2 * DAY}
    first, second = (BulkOperation.objects.create(**ended) for _ in range(2))
    with referring(BulkOperation, models.PROTECT) as order:
        order.objects.create(place=first)

        result = kernel.dispatch(Prune(what="bulk", older_than=DAY))

        assert (result.deleted, result.kept) == (1, 1)
        assert list(BulkOperation.objects.all()) == [first]
        assert second != first


@contextmanager
def objecting(condition: str, state: str) -> Iterator[None]:
    """Let a trigger of PostgreSQL object to the deletion of runs."""
    body = f"IF {condition} THEN RAISE EXCEPTION 'it is archived' USING ERRCODE = '{state}'; END IF; RETURN OLD;"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        cursor.execute(
            "CREATE TRIGGER objects BEFORE DELETE ON workflow_engine_workflowrun FOR EACH ROW EXECUTE FUNCTION object()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION object() CASCADE")


@pytest.mark.postgresql
def test_a_trigger_that_objects_holds_up_no_other_run(kernel: Kernel, runs: list[WorkflowRun]) -> None:
    with objecting(f"OLD.id = '{runs[2].pk}'", "P0001"):
        result = kernel.dispatch(Prune(what="runs", older_than=DAY))

    assert (result.deleted, result.kept) == (4, 1)
    assert "it is archived" in result.refusal
    assert WorkflowRun.objects.get() == runs[2]


@pytest.mark.postgresql
@pytest.mark.parametrize(("count", "left"), [(1, 1), (2, 2), (3, None)])
def test_some_conflicts_are_stepped_over_and_a_database_that_has_nothing_else_is_left_alone(
    kernel: Kernel, runs: list[WorkflowRun], count: int, left: int | None
) -> None:
    with objecting(f"OLD.id <= '{runs[count - 1].pk}'", "40001"):
        if left is None:
            with pytest.raises(DatabaseConflict):
                kernel.dispatch(Prune(what="runs", older_than=DAY))
        else:
            assert kernel.dispatch(Prune(what="runs", older_than=DAY)).kept == left

    assert WorkflowRun.objects.count() == (5 if left is None else left)
