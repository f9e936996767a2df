"""What attempts and the events of stages must say of each other: tokens, starts, outcomes, winners."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import AttemptRow, EventRow, Record
from workflow_engine.statuses import AttemptKind, AttemptOutcome, StageStatus

# Clocks of databases are set back by a little now and then.
TOLERANCE = timedelta(seconds=1)
STARTED, COMPLETED = "stage.started", "stage.completed"
# Each ends the attempt that began with ``stage.started``.
OUTCOMES = (COMPLETED, "stage.failed", "stage.retrying", "stage.suspended")
ENDS = (*OUTCOMES, "stage.cancelled")


def winners(record: Record) -> Iterator[Finding]:
    """A COMPLETED stage has one attempt that won, with the token it ended with; no other stage has any."""
    won: dict[object, list[int]] = defaultdict(list)
    for attempt in record.attempts:
        if attempt.outcome == AttemptOutcome.COMPLETED:
            won[attempt.stage_run_id].append(attempt.token)
    for row in record.stages:
        tokens = won.pop(row.pk, [])
        # A mapped stage ends with its items, and not by an attempt of its own.
        wanted = int(row.status == StageStatus.COMPLETED and not row.output.items)
        if len(tokens) != wanted:
            text = f"{row.place} is {row.status}, and {len(tokens)} attempts of it have won."
            yield violation("stage.winner", record, row.stage, text=text)
        elif wanted and tokens[0] != row.token - (row.superseded_at is not None):
            text = f"{row.place} was completed with token {row.token}, and the attempt that has won had {tokens[0]}."
            yield violation("stage.winner", record, row.stage, text=text)


def completions(record: Record) -> Iterator[Finding]:
    """A COMPLETED stage has one event that says so; no other stage has any."""
    counts: dict[str, int] = defaultdict(int)
    for event in record.events:
        counts[event.stage_run_id] += event.type == COMPLETED
    first = record.events[0].generation if record.events else None
    for row in record.stages:
        if first is None or (row.generation <= first and not record.knows_all):
            continue
        count = counts[str(row.pk)]
        if count != (row.status == StageStatus.COMPLETED):
            text = f"{row.place} is {row.status}, and {count} events say that it is completed."
            yield violation("stage.completions", record, row.stage, text=text)


def tokens(record: Record) -> Iterator[Finding]:
    """No token is handed out twice, and none is ahead of its stage."""
    rows = {str(row.pk): row for row in record.stages}
    seen: set[tuple[str, int]] = set()
    for event in record.events:
        if event.type == STARTED:
            if (event.stage_run_id, event.token) in seen:
                text = f"Token {event.token} was handed out twice, the second time by event {event.sequence}."
                yield violation("token.twice", record, event.stage, text=text)
            seen.add((event.stage_run_id, event.token))
    used = [(event.stage_run_id, event.stage, event.token) for event in record.events if event.type == STARTED]
    used += [(str(attempt.stage_run_id), attempt.stage, attempt.token) for attempt in record.attempts]
    for pk, stage, token in dict.fromkeys(used):
        row = rows.get(pk)
        if row is not None and token > row.token:
            text = f"Token {token} was handed out. {row.place} has only come to {row.token}."
            yield violation("token.ahead", record, stage, text=text)


def starts(record: Record) -> Iterator[Finding]:
    """What came of an attempt comes after its own start."""
    if not record.knows_all:
        return
    started: dict[str, set[int]] = defaultdict(set)
    mapped = {str(row.pk) for row in record.maps}
    bodies = {(str(row.stage_run_id), row.token) for row in record.attempts if row.kind == AttemptKind.BODY}
    for event in record.events:
        tokens, pk = started[event.stage_run_id], event.stage_run_id
        if event.type == STARTED:
            tokens.add(event.token)
        elif event.type not in OUTCOMES or not event.attempt or pk in mapped:
            # What was refused has not begun; of a map whose failed items run again only they begin.
            continue
        elif event.token not in tokens if (pk, event.token) in bodies else not tokens:
            text = f"Event {event.sequence} ({event.type}) says what came of token {event.token}, which never started."
            yield violation("events.no_start", record, event.stage, text=text)


def overlaps(record: Record) -> Iterator[Finding]:
    """The attempts of a stage come one after the other."""
    running: dict[str, EventRow] = {}
    for event in record.events:
        if event.type == STARTED:
            before = running.get(event.stage_run_id)
            if before is not None:
                text = (
                    f"Event {event.sequence} starts an attempt with token {event.token}, "
                    f"and nothing says that the one with token {before.token} had ended."
                )
                yield violation("attempts.overlap", record, event.stage, text=text)
            running[event.stage_run_id] = event
        elif event.type in ENDS:
            running.pop(event.stage_run_id, None)
    latest: dict[object, AttemptRow] = {}
    for attempt in record.attempts:
        older = latest.get(attempt.stage_run_id)
        if older is not None and attempt.finished_at < older.finished_at - TOLERANCE:
            text = f"The attempt with token {attempt.token} ended before the one with token {older.token}."
            yield violation("attempts.overlap", record, attempt.stage, text=text)
        latest[attempt.stage_run_id] = attempt


def budgets(record: Record) -> Iterator[Finding]:
    for row in record.stages:
        if row.crashes > record.max_crashes:
            text = f"{row.place} has crashed {row.crashes} times while alone; it may {record.max_crashes} times."
            yield violation("budget.exceeded", record, row.stage, text=text)


def strangers(record: Record) -> Iterator[Finding]:
    """Attempts of stages that are not there."""
    rows: set[object] = {row.pk for row in record.stages}
    for attempt in record.attempts:
        if attempt.stage_run_id not in rows:
            text = f"An attempt with token {attempt.token} is of a stage run that is gone."
            yield violation("row.orphan", record, attempt.stage, text=text)


RULES = (winners, completions, tokens, starts, overlaps, budgets, strangers)
