"""Taking and finishing in turns: short runs wait for nothing that is done about the items of maps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.maps import Importer
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.turns import Turns
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(known: Any) -> Worker:
    """A worker for which twenty items of a map are due."""
    importer = Importer()
    known(importer.workflow, chain(1))
    run = create_run("importer", 20)
    process_available_jobs(max_jobs=2)
    assert StageRun.objects.filter(run=run, map_index__gte=0, status="PENDING").count() == 20
    worker = Worker(get_kernel(), WorkerOptions(threads=8))
    worker.beat()
    return worker


def due_before_the_items() -> None:
    create_run("chain", {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns())


def test_items_are_taken_in_a_turn_of_their_own(worker: Worker) -> None:
    turns = worker.runner.turns

    with turns.taking():
        taken = worker.taker.take(worker._starter(), 0)
        held = turns.has(items=True), turns.others.locked()

    assert [stage.stage_id for stage in taken] == ["import-line"] * worker.room.free_items
    assert held == (True, False)
    assert not turns.items.locked()


def test_others_are_taken_first_and_items_by_the_next_look(worker: Worker) -> None:
    due_before_the_items()
    turns = worker.runner.turns

    with turns.taking():
        first = worker.taker.take(worker._starter(), 0)
        assert turns.has(items=False)
    with turns.taking():
        second = worker.taker.take(worker._starter(), 1)

    assert [stage.stage_id for stage in first] == ["add-1"]
    assert {stage.stage_id for stage in second} == {"import-line"}


def test_items_do_not_wait_for_ever_for_others_whose_runs_are_held(worker: Worker, monkeypatch: Any) -> None:
    due_before_the_items()
    take = worker.taker._take_stages
    tried: list[bool] = []

    def somebody_holds_others(starter: Starter, kind: Any, **how: Any) -> list[StartedStage]:
        tried.append(starter.takes_items)
        return take(starter, kind, **how) if starter.takes_items else []

    monkeypatch.setattr(worker.taker, "_take_stages", somebody_holds_others)

    with worker.runner.turns.taking():
        assert worker.taker.take(worker._starter(), 0) == []
    with worker.runner.turns.taking():
        taken = worker.taker.take(worker._starter(), 0)

    assert {stage.stage_id for stage in taken} == {"import-line"}
    assert tried == [False, False, True]


def test_only_one_thread_takes_at_a_time_and_leaves_its_turn_after_an_error() -> None:
    turns = Turns()

    with pytest.raises(ZeroDivisionError), turns.taking() as first:
        turns.switch(items=True)
        with turns.taking(wait=False) as second:
            assert (first, second) == (True, False)
        assert turns.items.locked()
        raise ZeroDivisionError

    assert not turns.items.locked()
    with turns.taking(wait=False) as third:
        assert third
