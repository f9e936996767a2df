"""What must hold too once everybody has done their work: everything has ended, and nothing is left to be told."""

from __future__ import annotations

from collections.abc import Iterator

from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import Record
from workflow_engine.statuses import PlaceStatus


def ended(record: Record) -> Iterator[Finding]:
    if not record.has_ended:
        states = sorted(f"{row.stage} {row.status}" for row in record.stages if row.finished_at is None)
        text = f"The run is {record.run.status}; open stages: {', '.join(states) or 'none'}."
        yield violation("run.open", record, text=text)
    elif record.place not in (None, PlaceStatus.FREE):
        yield violation("place.kept", record, text=f"The run has ended, and its place is {record.place}.")


def handed_on(record: Record) -> Iterator[Finding]:
    pending = [event.sequence for event in record.events if event.pending]
    if pending:
        text = f"Of {len(pending)} events nobody was told, the first is {pending[0]}."
        yield violation("delivery.left", record, text=text)


def gone_events(record: Record) -> Iterator[Finding]:
    """For those who have deleted none."""
    first = record.events[0].sequence if record.events else record.run.event_seq + 1
    if first != 1:
        yield violation("events.gap", record, text=f"The events before {first} are gone.")


RULES = (ended, handed_on)
