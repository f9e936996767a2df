from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workflow_engine.management.changes import changed, in_words
from workflow_engine.management.looking import StageLine

T0 = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ERROR = {"code": "STAGE_FAILED", "class": "Broken", "message": "no"}
WAITS = StageLine("a", "PENDING")
RUNS = StageLine("a", "RUNNING", attempt=1, started_at=T0)
HALF = StageLine("a", "RUNNING", attempt=1, started_at=T0, percent=50.0, message="row 1\nof 2")


def test_what_has_not_begun_is_no_change() -> None:
    assert not list(changed((), (StageLine("a"), WAITS)))
    assert not list(changed((StageLine("a"),), (WAITS,)))
    assert not list(changed((RUNS,), (RUNS,)))


def test_a_start_is_told_once_and_progress_whenever_it_moves() -> None:
    assert in_words(None, RUNS) == in_words(WAITS, RUNS) == "started"
    assert in_words(RUNS, HALF) == "50%  row 1 of 2"
    assert in_words(WAITS, HALF) == "started  50%  row 1 of 2"


def test_a_later_attempt_and_its_reason_are_told() -> None:
    retries = StageLine("a", "PENDING", attempt=1, error=ERROR, retry_at=T0, started_at=T0)
    again = StageLine("a", "RUNNING", attempt=2, error=ERROR, started_at=T0)

    assert list(changed((RUNS,), (retries,))) == [(RUNS, retries)]
    assert in_words(RUNS, retries) == "attempt 1 failed, retries at 03:04:05: Broken: no"
    assert in_words(retries, again) == "started, attempt 2"


def test_a_stage_that_its_worker_gave_back_is_told() -> None:
    released = StageLine("a", "PENDING", attempt=1, started_at=T0)

    assert list(changed((RUNS,), (released,))) == [(RUNS, released)]
    assert in_words(RUNS, released) == "waits to be taken again"


def test_every_end_is_told() -> None:
    end = T0 + timedelta(seconds=90)
    done = StageLine("a", "COMPLETED", attempt=2, started_at=T0, finished_at=end)
    failed = StageLine("a", "FAILED", attempt=1, error=ERROR, started_at=T0, finished_at=end)

    assert in_words(RUNS, done) == "completed in 1 min 30 s, attempt 2"
    assert in_words(RUNS, failed) == "failed: Broken: no"
    assert in_words(WAITS, StageLine("a", "CANCELLED", finished_at=end)) == "cancelled"
