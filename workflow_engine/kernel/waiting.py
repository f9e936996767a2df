"""What waits for a worker just now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from django.db.models import Exists, QuerySet

from workflow_engine.models import StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.models.compiled import rows_of

from .ports import Ports

# Rows looked at to find the queues in which something waits.
MOST_WAITING = 100


def waiting_queues(
    ports: Ports, queues: Sequence[str] | None = None, *, workflows: Sequence[str] | None = None
) -> list[str]:
    """Return those of ``queues`` (None: of all) in which something is due now; two statements.

    Args:
        workflows: of these, paused or not; None: of all that are known here, pauses heeded.
    """
    wanted = None if queues is None else tuple(queues)
    known = tuple(ports.takable_workflows() if workflows is None else workflows)
    paused = ports.pauses().queues if workflows is None else frozenset()

    def of_stages() -> QuerySet[Any]:
        of = None if wanted is None else list(wanted)
        rows = StageRun.objects.using(ports.using).startable(ports.clock.db_now(), of, list(known), paused=paused)
        return rows.values_list("queue")[:MOST_WAITING]

    def of_runs() -> QuerySet[Any]:
        rows = WorkflowRun.objects.using(ports.using).claimable(ports.clock.db_now(), list(known))
        return rows.values_list("data__plan")[:MOST_WAITING]

    def ask(kind: str, *made_of: Hashable, build: Callable[[], QuerySet[Any]]) -> Iterator[Any]:
        rows = rows_of(ports.using, ("waiting", kind, *made_of), build, keep=not ports.is_frozen)
        return (row[0] for row in rows)

    found = set(ask("stages", wanted, known, paused, build=of_stages))
    for plan in ask("runs", known, build=of_runs):
        found |= {item["queue"] for group in plan["groups"][:1] for item in group["stages"]}
    return sorted(found - paused if wanted is None else (found & set(wanted)) - paused)


def ring_again(ports: Ports) -> list[str]:
    """Ring where something is due and waits, as the transport may have lost its bells; return the queues.

    Nothing is asked where workers look for themselves.
    """
    if ports.transport.polls or not _anything_waits(ports):
        return []
    queues = waiting_queues(ports)
    ports.transport.refill(queues)
    return queues


def _anything_waits(ports: Ports) -> bool:
    """Whether a stage or run is due, paused or not; one statement, for the many times when there is none."""
    known = ports.known_workflows()

    def build() -> QuerySet[Any]:
        now = ports.clock.db_now()
        stages = StageRun.objects.using(ports.using).startable(now, None, known)
        runs = WorkflowRun.objects.using(ports.using).claimable(now, known)
        # Any worker's row will do; without one it is not known here who listens.
        return WorkerHeartbeat.objects.using(ports.using).order_by().values_list(Exists(stages), Exists(runs))[:1]

    found = rows_of(ports.using, ("waits", tuple(known)), build, keep=not ports.is_frozen)
    return not found or any(found[0])
