"""A worker is killed in the middle of an import, another one takes over: every book is there once."""

from __future__ import annotations

import pytest

from example_project.bookshop.delivery import SAMPLE
from example_project.bookshop.models import Book
from example_project.bookshop.schemas import Summary
from example_project.bookshop.workflows import nightly_import, shelf_list
from tests.faults.takeover import all_ended, killed, take_over
from tests.invariants import check_all
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import StageAttempt, StageMap, StageRun, WorkflowRun

from .deliveries import IMPORTED, REJECTED, TITLES

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def start() -> WorkflowRun:
    with registry_override(nightly_import, shelf_list):
        return create_run(nightly_import, {"path": str(SAMPLE)})


def assert_imported_once(run: WorkflowRun) -> None:
    check_all()
    run.refresh_from_db()
    assert (run.status, run.error) == ("COMPLETED", None)
    summary = Summary.model_validate(run.get_output())
    assert (summary.imported, summary.rejected, summary.titles) == (IMPORTED, REJECTED, TITLES)
    assert Book.objects.count() == IMPORTED
    assert len(set(Book.objects.values_list("title", "author"))) == IMPORTED
    assert WorkflowRun.objects.filter(parent_run=run).count() == len(TITLES)


def test_a_worker_killed_among_the_rows_leaves_every_book_once() -> None:
    run = start()

    # The body of a row has returned, so its book is written; that it is, nobody has noted.
    killed(f"{points.EXEC_RETURNED}:60")
    counts = StageMap.objects.get(run=run)
    assert 0 < counts.done < IMPORTED
    take_over(all_ended)

    again = StageRun.objects.filter(run=run, stage="import-row", attempt__gt=1).count()
    assert 0 < again < 60
    assert_imported_once(run)


@pytest.mark.parametrize(("point", "hit"), [(points.MAP_IN_TX, 1), (points.CHILD_IN_TX, 3), (points.NOTICE_IN_TX, 2)])
def test_a_worker_killed_between_the_rows_and_the_shelves_lists_every_shelf_once(point: str, hit: int) -> None:
    run = start()

    killed(f"{point}:{hit}")
    take_over(all_ended)

    assert StageAttempt.objects.filter(stage="write-list", outcome="completed").count() == len(TITLES)
    assert_imported_once(run)
