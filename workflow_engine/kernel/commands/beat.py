"""``worker.beat``: a worker process renews its lease and learns which of its attempts it has lost."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow_engine.kernel.ports import Ports, WorkerFacts
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun, WorkerHeartbeat
from workflow_engine.models.compiled import THIS_WORKER, change_rows, rows_of

from .base import Command, handles

# Stand for what is counted in the statement that is compiled once.
COUNTS = (-101, -102, -103)


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatResult:
    # Attempts that this process runs but no longer holds: drop their results.
    lost: frozenset[uuid.UUID]
    # Attempts that the database says run here but the process does not know, with their tokens.
    unknown: Mapping[uuid.UUID, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat(Command[BeatResult]):
    """Renew the lease by one UPDATE.

    Args:
        running: stage run id -> token of what the process runs, or checks.
        stopping: the last beat of a process that ends in good order.
    """

    type = "worker.beat"
    worker: WorkerFacts
    running: Mapping[uuid.UUID, int]
    zombies: int = 0
    # How many of them are checks.
    checking: int = 0
    stopping: bool = False


@handles(Beat)
def beat(command: Beat, ports: Ports, causation_id: uuid.UUID) -> BeatResult:
    transact(ports, causation_id, lambda work: _renew(work, command))
    rows: Any = rows_of(ports.using, "held", lambda: _held(ports), places={THIS_WORKER: command.worker.id})
    held: dict[uuid.UUID, int] = dict(rows)
    return BeatResult(
        lost=frozenset(pk for pk, token in command.running.items() if held.get(pk) != token),
        unknown={pk: token for pk, token in held.items() if command.running.get(pk) != token},
    )


def _held(ports: Ports) -> Any:
    return StageRun.objects.using(ports.using).held().filter(worker=THIS_WORKER).values_list("pk", "token")


def _renew(work: UnitOfWork, command: Beat) -> None:
    rows, worker = WorkerHeartbeat.objects.using(work.ports.using), command.worker
    lease = timedelta(0) if command.stopping else timedelta(seconds=work.ports.limits.lease_seconds)

    def changes(running: int, checking: int, zombies: int) -> dict[str, Any]:
        return {
            "beat_at": work.now,
            "lease_until": work.now + lease,
            "running": running,
            "checking": checking,
            "zombies": zombies,
            "stopped_at": work.now if command.stopping else None,
        }

    counts = (len(command.running) - command.checking, command.checking, command.zombies)
    if change_rows(
        work.ports.using,
        ("beat", lease, command.stopping),
        lambda: (rows.filter(pk=THIS_WORKER), changes(*COUNTS)),
        places={THIS_WORKER: worker.id, **dict(zip(COUNTS, counts, strict=True))},
        keep=not work.ports.is_frozen,
    ):
        return
    rows.bulk_create(
        [
            WorkerHeartbeat(
                pk=worker.id,
                name=worker.name[:200],
                host=worker.host[:200],
                pid=worker.pid,
                version=worker.version,
                slots=worker.slots,
                queues=None if worker.queues is None else list(worker.queues),
                workflows=list(worker.workflows),
                stages={workflow: list(stages) for workflow, stages in worker.stages.items()},
                started_at=work.now,
                **changes(*counts),
            )
        ]
    )
