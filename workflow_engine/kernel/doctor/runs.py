"""Runs looked at one by one, a page at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import WorkflowRun
from workflow_engine.statuses import RunStatus

from .findings import Finding
from .reading import Record, load
from .rules import Rule, judge
from .rules.blobs import missing_blobs

PAGE = 200
# A run that goes on while it is read looks wrong for a moment.
LOOKS = 5
Key = tuple[str, str]


def newest(ports: Ports, most: int | None) -> Iterator[list[uuid.UUID]]:
    """Yield the ids of the newest runs, at most ``most``, in pages."""
    rows = WorkflowRun.objects.using(ports.using).order_by("-pk")
    left, last = most, None
    while left is None or left > 0:
        page = rows if last is None else rows.filter(pk__lt=last)
        wanted = PAGE if left is None else min(PAGE, left)
        found = list(page.values_list("pk", flat=True)[:wanted])
        if found:
            yield found
        if len(found) < wanted:
            return
        left, last = (None if left is None else left - len(found)), found[-1]


def open_runs(ports: Ports, most: int) -> list[uuid.UUID]:
    """Return the ids of runs that live, those that run before those that wait, at most ``most``."""
    found: list[uuid.UUID] = []
    for status in (RunStatus.RUNNING, RunStatus.PENDING):
        rows = WorkflowRun.objects.using(ports.using).filter(status=status).order_by()
        found += rows.values_list("pk", flat=True)[: most - len(found)]
    return found


def look_at(
    ports: Ports, ids: Sequence[uuid.UUID], rules: tuple[Rule, ...], *, blobs: bool = False
) -> Iterator[Finding]:
    """Yield what is wrong with these runs, and not only because they went on while they were read.

    What is found is asked again, and counts if it is still so and the run did not move; of a run that always moves, if
    it was so every time, word for word.
    """

    def ask(record: Record) -> Iterator[Finding]:
        yield from judge(record, rules)
        if blobs:
            yield from missing_blobs(record, ports.blobs)

    suspects = _ask(load(ports, ids), ask)
    for look in range(LOOKS):
        if not suspects:
            return
        records = load(ports, list(suspects))
        again = _ask(records, ask)
        heads = {record.run.pk: record.head for record in records}
        settled = _settled(ports, heads)
        moving: dict[uuid.UUID, list[Finding]] = {}
        for run_id, found in again.items():
            before = suspects.get(run_id, [])
            if run_id in settled:
                known = {_key(one) for one in before}
                yield from (one for one in found if _key(one) in known)
                continue
            same = [one for one in found if one in before]
            if look == LOOKS - 1:
                yield from same
            elif same or look == 0:
                moving[run_id] = same or found
        suspects = moving


def _ask(records: Sequence[Record], ask: Callable[[Record], Iterator[Finding]]) -> dict[uuid.UUID, list[Finding]]:
    found = {record.run.pk: list(ask(record)) for record in records}
    return {run_id: findings for run_id, findings in found.items() if findings}


def _key(found: Finding) -> Key:
    return found.code, found.stage


def _settled(ports: Ports, heads: dict[uuid.UUID, tuple[object, ...]]) -> set[uuid.UUID]:
    rows = WorkflowRun.objects.using(ports.using).filter(pk__in=list(heads))
    columns = ("status", "generation", "event_seq", "due_at", "paused_at")
    return {pk for pk, *head in rows.values_list("pk", *columns) if heads[pk] == tuple(head)}
