"""The run itself: its status, times, plan, totals, relatives, keys, place, and what it stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import isclose

from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import Record
from workflow_engine.kernel.totals import sum_of
from workflow_engine.models.base import HELD_BACK
from workflow_engine.statuses import DONE_STAGE, OPEN_STAGE, PlaceStatus, RunStatus, StageStatus


def status(record: Record) -> Iterator[Finding]:
    run = record.run
    if run.status not in RunStatus.values:
        text = f"The run has the status {run.status!r}, which does not exist."
        yield violation("status.unknown", record, text=text)
        return
    if run.status == RunStatus.RUNNING and run.started_at is None:
        yield violation("status.impossible", record, text="The run is RUNNING and was never started.")
    if record.has_ended != (run.finished_at is not None):
        text = f"The run is {run.status} and {'has no' if record.has_ended else 'has a'} time of its end."
        yield violation("time.missing", record, text=text)
    times = [time for time in (run.created_at, run.started_at, run.finished_at) if time is not None]
    if times != sorted(times):
        yield violation("time.disordered", record, text="The run started before it was made, or ended before that.")


def movement(record: Record) -> Iterator[Finding]:
    """Something will move it, unless it is paused or waits for a place."""
    run = record.run
    moving = any(row.superseded_at is None and row.status in OPEN_STAGE for row in record.stages)
    if run.status == RunStatus.RUNNING and run.paused_at is None and not moving:
        text = "The run is RUNNING, and no stage of it is pending, running or suspended: nothing will move it."
        yield violation("run.stuck", record, text=text)
    if run.status == RunStatus.PENDING and run.due_at == HELD_BACK and record.place != PlaceStatus.WAITING:
        text = "The run is held back, and waits for no place of a limit: nobody will let it go."
        yield violation("place.missing", record, text=text)


def plan(record: Record) -> Iterator[Finding]:
    """A plan with groups of stages; where the run was completed, each of them done."""
    if not record.has_data:
        yield violation("plan.broken", record, text="The run has no row with its plan, input and config.")
        return
    if record.groups is None:
        text = "The run's plan is none: it has no groups of stages with ids and queues."
        yield violation("plan.broken", record, text=text)
        return
    completed = {event.generation for event in record.events if event.type == "run.completed"}
    if record.run.status == RunStatus.COMPLETED:
        completed.add(record.run.generation)
    planned = [stage for group in record.groups for stage in group]
    for generation in sorted(completed):
        done = {row.stage for row in record.counting(generation) if not row.is_item and row.status in DONE_STAGE}
        for stage in planned:
            if stage not in done:
                text = "The run is COMPLETED, and this stage of its plan is neither COMPLETED nor SKIPPED."
                yield violation("run.incomplete", record, stage, text=text)


def totals(record: Record) -> Iterator[Finding]:
    kept = [row for row in record.stages if row.superseded_at is None and row.status == StageStatus.COMPLETED]
    cost, tokens = sum_of(row.metrics for row in kept)
    run = record.run
    if run.total_tokens != tokens or not isclose(run.total_cost, cost, rel_tol=1e-9, abs_tol=1e-9):
        text = (
            f"The run's totals are cost {run.total_cost} and tokens {run.total_tokens}; "
            f"those of its stages are {cost} and {tokens}."
        )
        yield violation("totals.wrong", record, text=text)


def parent(record: Record) -> Iterator[Finding]:
    """Its parent knows it by one name; and does not wait for what has ended."""
    known = record.parent
    if known is None or known.waits is None:
        return
    times = known.children.count(str(record.run.pk))
    if times != 1:
        text = f"The stage that has started the run knows it {times} times, and not once."
        yield violation("child.unknown", record, text=text)
    if record.has_ended and known.waits and not record.has_told and not known.has_open_child:
        text = "The run has ended, and the stage that has started it waits for it without ever hearing of that."
        yield violation("child.not_told", record, text=text)


def keys(record: Record) -> Iterator[Finding]:
    """A key answers with the run that was created under it, and with no other."""
    wrong = [found for found in record.keys if found != str(record.run.pk)]
    for found in wrong:
        text = f"The idempotency key of the run answers with run {found}."
        yield violation("key.wrong_run", record, text=text)
    if len(record.keys) > 1:
        text = f"{len(record.keys)} idempotency keys say that the run was created under them."
        yield violation("key.wrong_run", record, text=text)


def readable(record: Record) -> Iterator[Finding]:
    for stage, what, problem in record.unreadable:
        yield violation("row.unreadable", record, stage, text=f"The {what} cannot be read: {problem}")


def references(record: Record) -> Iterator[Finding]:
    """What a stage has made lies under a key of its own, in the folder of its run."""
    own = Counter(blob.key for blob in record.blobs if blob.is_own)
    for key, count in own.items():
        if count > 1:
            yield violation("blob.shared", record, text=f"{count} rows have made the blob {key!r}.")
    for blob in record.blobs:
        if blob.is_own and str(record.run.pk) not in blob.key:
            text = f"The blob {blob.key!r} ({blob.what}) is not in the folder of the run."
            yield violation("blob.shared", record, blob.stage, text=text)


RULES = (status, movement, plan, totals, parent, keys, readable, references)
