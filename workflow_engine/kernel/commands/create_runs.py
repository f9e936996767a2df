"""``run.create_many``: many runs in one transaction and a constant number of statements; each for itself, or not."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DataError, IntegrityError, connections

from workflow_engine.errors import FieldError, IdempotencyConflict, InvalidInput, InvalidPayload, WorkflowEngineError
from workflow_engine.kernel import points
from workflow_engine.kernel.idempotency import Claim, claim_keys
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WorkflowRun

from .base import Command, handles
from .create_run import CreateRun, Prepared, insert, prepare

# What code of the user's raises about a value it does not expect, and pydantic passes on.
_OF_THE_VALUE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# What one of the rows can be refused with, by the database or by the arithmetic of its times.
_OF_THE_ROW = (DataError, IntegrityError, OverflowError)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneOfRuns:
    """What became of one of the commands; without an error there is a run."""

    run_id: uuid.UUID | None = None
    # False: an earlier command with this idempotency key made the run, perhaps one before in the same call.
    created: bool = False
    error: WorkflowEngineError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateRunsResult:
    # One per command, in their order.
    outcomes: tuple[OneOfRuns, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateRuns(Command[CreateRunsResult]):
    """Create runs in one transaction. What is wrong with one of them is in its outcome, and the others are created.

    Raises:
        DatabaseConflict, DatabaseUnavailable: nothing was written.
    """

    type = "run.create_many"
    runs: Sequence[CreateRun]


@dataclass(slots=True)
class _Entry:
    command: CreateRun
    prepared: Prepared
    place: int


@handles(CreateRuns)
def create_runs(command: CreateRuns, ports: Ports, causation_id: uuid.UUID) -> CreateRunsResult:
    outcomes: list[OneOfRuns | None] = [None] * len(command.runs)
    entries = []
    for place, one in enumerate(command.runs):
        try:
            entries.append(_Entry(*prepare(one, ports), place))
        except WorkflowEngineError as error:
            outcomes[place] = OneOfRuns(error=error)
        except _OF_THE_VALUE as error:
            problem = FieldError("", f"checking it raised {type(error).__name__}: {error}"[:500])
            outcomes[place] = OneOfRuns(error=InvalidInput(f"workflow {one.workflow_id!r}", [problem]))
    for entry, outcome in zip(entries, _create_all(entries, ports, causation_id), strict=True):
        outcomes[entry.place] = outcome
    return CreateRunsResult(outcomes=tuple(one for one in outcomes if one is not None))


def _create_all(entries: Sequence[_Entry], ports: Ports, causation_id: uuid.UUID) -> list[OneOfRuns]:
    if not entries:
        return []
    # Without keys all that is written goes by one statement.
    plain = all(entry.command.idempotency_key is None for entry in entries)
    try:
        outcomes = transact(ports, causation_id, lambda work: _create(work, entries), plain=plain)
    except _OF_THE_ROW as error:
        if len(entries) > 1:
            # The database refuses something of one of them: each for itself, so that it is the only one.
            return [outcome for entry in entries for outcome in _create_all([entry], ports, causation_id)]
        outcomes = [_refused(entries[0], ports, error)]
    points.hit(points.CREATE_AFTER)
    return outcomes


def _refused(entry: _Entry, ports: Ports, error: Exception) -> OneOfRuns:
    # An earlier try, whose connection was lost, was still under way in the server and has ended only now.
    if not connections[ports.using].in_atomic_block and _existing(ports, [entry]):
        return OneOfRuns(run_id=entry.prepared.run_id, created=True)
    refused = InvalidPayload("the run", f"it cannot be stored ({type(error).__name__}: {error})"[:500])
    refused.__cause__ = error
    return OneOfRuns(error=refused)


def _create(work: UnitOfWork, entries: Sequence[_Entry]) -> list[OneOfRuns]:
    found = _claim(work, entries)
    there = _existing(work.ports, entries) if work.repeated else set()
    now = work.time_of_new_rows()
    for entry in entries:
        if entry.place not in found and entry.prepared.run_id not in there:
            insert(work, entry.command, entry.prepared, now)
    points.hit(points.CREATE_IN_TX)
    work.save()
    return [found.get(entry.place) or OneOfRuns(run_id=entry.prepared.run_id, created=True) for entry in entries]


def _existing(ports: Ports, entries: Sequence[_Entry]) -> set[uuid.UUID]:
    ids = [entry.prepared.run_id for entry in entries]
    return set(WorkflowRun.objects.using(ports.using).filter(pk__in=ids).values_list("pk", flat=True))


def _claim(work: UnitOfWork, entries: Sequence[_Entry]) -> dict[int, OneOfRuns]:
    """Take the idempotency keys; return the outcome of those that are not to be created, by place."""
    claims: dict[str, Claim] = {}
    keyed: list[tuple[_Entry, Claim]] = []
    for entry in entries:
        if entry.command.idempotency_key is not None:
            claim = Claim.of(
                entry.command.type,
                entry.command.idempotency_scope,
                entry.command.idempotency_key,
                request_hash=entry.prepared.request_hash,
                run_id=entry.prepared.run_id,
            )
            # Of those with the same key the first takes it.
            claims.setdefault(claim.digest, claim)
            keyed.append((entry, claim))
    if not claims:
        return {}
    taken = claim_keys(work, claims.values())
    found = {}
    for entry, claim in keyed:
        holder = taken[claim.digest]
        if isinstance(holder, WorkflowEngineError):
            found[entry.place] = OneOfRuns(error=holder)
        elif holder.request_hash != claim.request_hash:
            found[entry.place] = OneOfRuns(error=IdempotencyConflict(entry.command.type))
        elif holder.run_id != claim.run_id:
            found[entry.place] = OneOfRuns(run_id=holder.run_id)
    return found
