"""Carrying out commands that were put off: each once, in the transaction that says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import DataError, IntegrityError
from django.db.models import F

from workflow_engine.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    RunNotFound,
    WorkflowEngineError,
    WorkflowNotFound,
)
from workflow_engine.kernel import points
from workflow_engine.kernel.advertised import read_advertised
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import ScheduledCommand, WorkflowRun
from workflow_engine.models.scheduled_commands import ScheduledCommandQuerySet
from workflow_engine.statuses import ScheduledStatus

from .deferring import Result, deferrable

logger = logging.getLogger(__name__)
# A command whose run somebody holds just now is tried again after this.
AGAIN = timedelta(seconds=1)
# After an error that may pass: ever more seldom, up to the last.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=2), timedelta(minutes=5)
LONGEST_ERROR = 2_000


class _Settled(Exception):
    """Somebody else carries it out, or it was cancelled: nothing of this is kept."""


class _Held(Exception):
    """Somebody holds its run: nothing of this is kept."""


def carry_out(ports: Ports, most: int) -> tuple[int, int, int]:
    """Carry out commands that are due; return how many were, how many were given up, and how many were looked at."""
    due = list(ScheduledCommand.objects.using(ports.using).due(ports.clock.db_now())[:most])
    outcomes = [_carry_out(ports, row) for row in due]
    fired, dead = (outcomes.count(status) for status in (ScheduledStatus.FIRED, ScheduledStatus.DEAD))
    return fired, dead, len(due)


def _carry_out(ports: Ports, row: ScheduledCommand) -> ScheduledStatus | None:
    """Return what has become of a command here; None: nothing yet, or elsewhere."""
    try:
        kind = deferrable(row.command)
        command = kind.read(row.payload, row.actor)

        def run(step: Callable[[UnitOfWork], Result]) -> None:
            points.hit(points.DEFERRED_PREPARED)
            transact(ports, row.pk, lambda work: _in_one(work, row, getattr(command, "run_id", None), step))

        kind.fire(command, ports, run)
    except _Settled:
        return None
    except (_Held, DatabaseConflict):
        _put_off(ports, row, AGAIN)
        return None
    except DatabaseUnavailable:
        raise
    except WorkflowNotFound as error:
        # Others may have it, or a deploy may be under way.
        elsewhere = read_advertised(ports).is_elsewhere(error.workflow_id)
        return None if elsewhere else _try_later(ports, row, error)
    except (DataError, IntegrityError, WorkflowEngineError) as error:
        return _give_up(ports, row, error)
    # Inputs and configs are validated by code of the user's, and stored by a blob store that may be away. If it is our
    # own database that is, putting it off says so.
    except Exception as error:
        return _try_later(ports, row, error)
    points.hit(points.DEFERRED_AFTER)
    logger.info("scheduled command fired command=%s id=%s", row.command, row.pk)
    return ScheduledStatus.FIRED


def _in_one(work: UnitOfWork, row: ScheduledCommand, run_id: Any, step: Callable[[UnitOfWork], Result]) -> None:
    using = work.ports.using
    mine = _rows(work.ports).filter(pk=row.pk)
    if not mine.hold(row):
        # An earlier try of this very transaction may have been committed although its answer was lost.
        if work.repeated and mine.filter(status=ScheduledStatus.FIRED).exists():
            return
        raise _Settled
    # Its row is held, out of the order of locks: so the run is never waited for.
    if run_id is not None and work.lock_run(run_id, skip_locked=True) is None:
        if not WorkflowRun.objects.using(using).filter(pk=run_id).exists():
            raise RunNotFound(run_id)
        raise _Held
    result = step(work)
    points.hit(points.DEFERRED_IN_TX)
    if not mine.fire(work.now, result):
        raise _Settled


def _try_later(ports: Ports, row: ScheduledCommand, error: Exception) -> ScheduledStatus | None:
    """Try again later what may pass, until that has gone on for the grace of unknown definitions."""
    waits = [min(FIRST_WAIT * 2 ** min(tries, 10), LONGEST_WAIT) for tries in range(row.tries + 1)]
    if sum(waits[:-1], timedelta()) >= timedelta(seconds=ports.limits.unknown_grace_seconds):
        return _give_up(ports, row, error)
    _put_off(ports, row, waits[-1], tries=F("tries") + 1, error=_text(error))
    logger.warning("scheduled command failed, tried again command=%s id=%s error=%s", row.command, row.pk, error)
    return None


def _give_up(ports: Ports, row: ScheduledCommand, error: Exception) -> ScheduledStatus | None:
    def step(work: UnitOfWork) -> bool:
        mine = _rows(ports).filter(pk=row.pk, due_at=row.due_at)
        return mine.hold(row) and mine.give_up(ports.clock.db_now(), _text(error))

    if not transact(ports, row.pk, step):
        return None
    logger.warning("scheduled command given up command=%s id=%s error=%s", row.command, row.pk, error)
    return ScheduledStatus.DEAD


def _put_off(ports: Ports, row: ScheduledCommand, wait: timedelta, **columns: Any) -> None:
    """Try it again after ``wait``; if somebody holds its row, it is due as before, and nobody waits for that."""
    rows = _rows(ports)
    transact(ports, row.pk, lambda work: rows.hold(row) and rows.put_off(row, ports.read_time() + wait, **columns))


def _rows(ports: Ports) -> ScheduledCommandQuerySet:
    return ScheduledCommand.objects.using(ports.using)


def _text(error: Exception) -> str:
    text = str(error) if isinstance(error, WorkflowEngineError) else f"{type(error).__name__}: {error}"
    return str(scrub(text)[:LONGEST_ERROR])
