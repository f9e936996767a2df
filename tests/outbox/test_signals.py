"""Django signals: after the commit, never for what was rolled back, whatever a receiver does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from tests.maps import Importer
from tests.workflows import chain, failing, fan
from workflow_engine import cancel_run, create_run
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.models import WorkflowRun
from workflow_engine.signals import run_finished, run_started, stage_finished

pytestmark = pytest.mark.django_db(transaction=True)
Sent = list[dict[str, Any]]


@pytest.fixture
def sent(known: Any) -> Iterator[Sent]:
    """What was sent, in order, without the sender."""
    known(chain(2), fan(3), failing())
    found: Sent = []

    def receive(sender: Any, signal: Any, **facts: Any) -> None:
        assert sender is WorkflowRun
        name = {id(run_started): "started", id(run_finished): "finished", id(stage_finished): "stage"}[id(signal)]
        found.append({"signal": name, **facts})

    signals = (run_started, run_finished, stage_finished)
    for signal in signals:
        signal.connect(receive)
    yield found
    for signal in signals:
        signal.disconnect(receive)


def words(sent: Sent) -> list[tuple[str, ...]]:
    return [(one["signal"], one.get("stage_id", ""), one.get("status", "")) for one in sent]


def test_a_run_tells_of_its_stages_and_of_its_end(sent: Sent) -> None:
    run = create_run("chain", {"value": 1})
    process_available_jobs()

    assert words(sent) == [
        ("started", "", ""),
        ("stage", "add-1", "COMPLETED"),
        ("stage", "add-2", "COMPLETED"),
        ("finished", "", "COMPLETED"),
    ]
    assert {(one["run_id"], one["workflow_id"]) for one in sent} == {(run.pk, "chain")}


@pytest.mark.parametrize(("workflow", "status"), [("failing", "FAILED"), ("fan", "COMPLETED")])
def test_every_kind_of_end_is_told_once(sent: Sent, workflow: str, status: str) -> None:
    create_run(workflow, {"value": 1})
    process_available_jobs()

    assert [one["status"] for one in sent if one["signal"] == "finished"] == [status]
    assert len([one for one in sent if one["signal"] == "stage"]) == (1 if workflow == "failing" else 5)


def test_items_of_a_map_say_which_they_are(sent: Sent, known: Any) -> None:
    known(Importer().workflow)
    create_run("importer", 3)
    process_available_jobs()

    items = [one["item_index"] for one in sent if one["signal"] == "stage" and one["stage_id"] == "import-line"]
    assert items == [0, 1, 2, None]


def test_what_is_rolled_back_is_not_told(sent: Sent) -> None:
    run = create_run("chain", {"value": 1})

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        cancel_run(run)
        assert sent == []
        raise ZeroDivisionError
    assert sent == []
    with transaction.atomic():
        cancel_run(run)
        assert sent == []

    assert words(sent)[-1] == ("finished", "", "CANCELLED")


def test_a_receiver_that_fails_keeps_nobody_from_hearing(sent: Sent, caplog: pytest.LogCaptureFixture) -> None:
    def fails(**facts: Any) -> None:
        raise LookupError("no such cache")

    run_finished.connect(fails)
    try:
        with caplog.at_level(logging.WARNING, logger="workflow_engine.sinks.signals"):
            create_run("chain", {"value": 1})
            process_available_jobs()
    finally:
        run_finished.disconnect(fails)

    assert words(sent)[-1] == ("finished", "", "COMPLETED")
    assert "LookupError: no such cache" in caplog.text
