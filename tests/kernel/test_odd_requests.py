"""Requests for runs that are unusual in one thing: their time, their actor, their connection, their JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction

from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.models import RunData, WorkflowAnnotation, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
JSON = {
    "large": 10**300,
    "negative": -(10**40),
    "tiny": 5e-324,
    "tenth": 0.1,
    "minus zero": -0.0,
    "one": 1.0,
    "text": 'é😀\u2028"\\\\u0000\x01',
    "nothing": [None, True, "", [], {}, "null"],
    "deep": [[[[[[[[[[1]]]]]]]]]],
}


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(1))


def test_summer_time_moves_no_rank_behind_the_due_time() -> None:
    begins = datetime(2027, 3, 28, 3, 10, tzinfo=ZoneInfo("Europe/Berlin"))

    run = create_run("chain", {"value": 1}, run_at=begins)

    row = WorkflowRun.objects.get(pk=run.pk)
    assert row.due_at == begins
    assert row.rank_at == row.due_at - timedelta(minutes=25)


@pytest.mark.parametrize("priority", [0, 1, 10])
def test_the_row_that_is_returned_has_the_times_that_were_stored(priority: int) -> None:
    run = create_run("chain", {"value": 1}, priority=priority)

    row = WorkflowRun.objects.get(pk=run.pk)
    assert row.due_at == row.created_at == run.created_at
    assert row.rank_at == run.rank_at == row.due_at - timedelta(minutes=5 * priority)


@pytest.mark.parametrize(("actor", "stored"), [("a\x00b", "a\ufffdb"), ("\ud800", "?")], ids=["NUL", "lone surrogate"])
def test_what_no_database_stores_of_an_actors_name_is_replaced(actor: str, stored: str) -> None:
    run = create_run("chain", {"value": 1}, actor=actor)

    assert RunData.objects.get(pk=run.pk).created_by == stored


def test_a_run_is_created_on_a_connection_without_autocommit() -> None:
    transaction.set_autocommit(False)
    try:
        run = create_run("chain", {"value": 1})
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert WorkflowRun.objects.filter(pk=run.pk).exists()


def test_metadata_and_annotations_come_back_as_they_were_given() -> None:
    run = create_run("chain", {"value": 1}, metadata=JSON, annotations={"key": JSON})

    assert run.metadata == JSON
    assert RunData.objects.get(pk=run.pk).metadata == JSON
    assert WorkflowAnnotation.objects.get(run=run).value == JSON


def test_what_create_run_returns_is_what_is_read_back() -> None:
    metadata: dict[str, Any] = {"pair": (1, 2), "more": {"list": []}}
    run = create_run("chain", {"value": 1}, metadata=metadata, priority=7)
    metadata["more"]["list"].append("changed later")

    read = WorkflowRun.objects.get(pk=run.pk)
    assert run.metadata == read.metadata == {"pair": [1, 2], "more": {"list": []}}
    names = ("status", "priority", "created_at", "due_at", "rank_at", "event_seq", "generation", "subject_id")
    assert [getattr(run, name) for name in names] == [getattr(read, name) for name in names]
    assert (run.plan, run.data.config, run.data.input) == (read.plan, read.data.config, read.data.input)
