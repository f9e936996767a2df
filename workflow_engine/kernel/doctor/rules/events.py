"""What the events of a run must say: their numbers, their generations, and the end."""

from __future__ import annotations

from collections.abc import Iterator

from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import EventRow, Record

TERMINAL = ("run.completed", "run.failed", "run.cancelled")


def gaps(record: Record) -> Iterator[Finding]:
    code, run = "events.gap", record.run
    if not record.events:
        # Those of runs that have ended may have been deleted.
        if not record.has_ended:
            yield violation(code, record, text=f"The run counts {run.event_seq} events, and there is none.")
        return
    first, last, count = record.events[0].sequence, record.events[-1].sequence, len(record.events)
    if last - first + 1 != count:
        yield violation(code, record, text=f"Of the events {first} to {last} there are only {count}.")
    elif last != run.event_seq or (not record.has_ended and first != 1 and not run.generation):
        # Of a run that goes on again those of before may have been deleted.
        text = f"The run counts {run.event_seq} events, and there are those from {first} to {last}."
        yield violation(code, record, text=text)


def generations(record: Record) -> Iterator[Finding]:
    """Events come generation by generation, and each but the first begins with the rerun."""
    code, before = "events.disordered", record.events[0].generation if record.events else 0
    if record.knows_all and before:
        yield violation(code, record, text=f"The first event is of generation {before}, and nothing was before it.")
    for event in record.events:
        number = event.generation
        if number < before or number > record.run.generation:
            text = f"Event {event.sequence} ({event.type}) is of generation {number}, out of turn."
            yield violation(code, record, text=text)
        begins = number > before
        if begins != (event.type == "run.rerun") and not (event is record.events[0] and number):
            text = f"Event {event.sequence} ({event.type}) {'begins' if begins else 'is within'} generation {number}."
            yield violation(code, record, text=text)
        before = max(before, number)
    if record.events and before < record.run.generation:
        text = f"The run is in generation {record.run.generation}, and its last event in {before}."
        yield violation(code, record, text=text)


def ends(record: Record) -> Iterator[Finding]:
    """A generation has one end of the right kind, unless it goes on; and nothing but annotations comes after it."""
    if not record.events:
        return
    found: dict[int, list[EventRow]] = {}
    for event in record.events:
        mine = found.setdefault(event.generation, [])
        if mine and event.type != "annotation.created" and event.type not in TERMINAL:
            text = f"Event {event.sequence} ({event.type}) comes after {mine[0].type}, the end of its generation."
            yield violation("events.after_end", record, event.stage, text=text)
        if event.type in TERMINAL:
            mine.append(event)
    for number, mine in found.items():
        if len(mine) > 1:
            text = f"Generation {number} has {len(mine)} events of the run's end; there can be one."
            yield violation("events.two_ends", record, text=text)
        if number < record.run.generation and not mine:
            text = f"Generation {number} is over, and no event says how it ended."
            yield violation("events.no_end", record, text=text)
    yield from _last_end(record, found.get(record.run.generation, []))


def _last_end(record: Record, mine: list[EventRow]) -> Iterator[Finding]:
    status = record.run.status
    if record.has_ended and not mine:
        text = f"The run is {status}, and no event of its last generation says so."
        yield violation("events.no_end", record, text=text)
    elif not record.has_ended and mine:
        text = f"The run is {status}, and an event says that it has ended."
        yield violation("events.no_end", record, text=text)
    elif mine and mine[0].type != f"run.{status.lower()}":
        yield violation("events.wrong_end", record, text=f"The run is {status}, and its end is {mine[0].type}.")


def deliveries(record: Record) -> Iterator[Finding]:
    for subscriber, last, target in record.targets:
        if last > target or target > record.run.event_seq:
            text = f"{subscriber!r} is to hear of events {last + 1} to {target}; the run has {record.run.event_seq}."
            yield violation("delivery.ahead", record, text=text)


RULES = (gaps, generations, ends, deliveries)
