"""``stage.wake``: timers that are over, and answers that nobody has given in time."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import DatabaseError, InterfaceError, OperationalError

from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, StageNotFound, WorkflowNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_ended, stage_event
from workflow_engine.kernel.events import StageAnswered, StageFailed
from workflow_engine.kernel.payloads import pack, write
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.rechecking import recheck
from workflow_engine.kernel.suspending import memo_row
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.models.runs import family
from workflow_engine.models.suspensions import SuspendedRows
from workflow_engine.statuses import MemoKind, RunStatus, WaitKind

from .base import Command, handles

logger = logging.getLogger(__name__)
Verdict = Literal["resumed", "failed", "kept"]
EXPIRED = "WAIT_EXPIRED"
MAX_PASSES = 5
# Nothing is wrong with a row because of these: whoever called tries again.
AWAY = (DatabaseConflict, DatabaseUnavailable, OperationalError, InterfaceError)


@dataclass(frozen=True, kw_only=True, slots=True)
class WakeSuspendedStagesResult:
    resumed: tuple[uuid.UUID, ...]
    failed: tuple[uuid.UUID, ...]
    # As many were due as were asked for: there may be more.
    is_full: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WakeSuspendedStages(Command[WakeSuspendedStagesResult]):
    """Let stages go on whose timer is over; give the default answer, or fail, where an answer is overdue; look after
    those that have waited for their items or a child run for a minute.

    Any number of callers at a time. Runs that somebody holds just now are left for the next one, and what is overdue
    of stages that the code here does not know (a deploy under way) to a process that does.
    """

    type = "stage.wake"
    max: int = 100
    run_id: uuid.UUID | None = None


@handles(WakeSuspendedStages)
def wake_suspended_stages(
    command: WakeSuspendedStages, ports: Ports, causation_id: uuid.UUID
) -> WakeSuspendedStagesResult:
    done: dict[Verdict, list[uuid.UUID]] = {"resumed": [], "failed": [], "kept": []}
    # Runs that somebody holds for long must not hide what is due of others behind them.
    for _ in range(MAX_PASSES):
        rows = _due(command, ports, done["kept"])
        timers = [row for row in rows if row.wait_kind == WaitKind.TIMER]
        resumed = _resume_timers(timers, ports, causation_id)
        done["resumed"] += resumed
        done["kept"] += {row.pk for row in timers} - set(resumed)
        for row in rows:
            if row.wait_kind == WaitKind.ANSWER:
                done[_expire(row, ports, causation_id)].append(row.pk)
        if len(rows) < command.max or len(done["resumed"]) + len(done["failed"]) > 0:
            break
    done["resumed"] += _recheck(command, ports, causation_id)
    return WakeSuspendedStagesResult(
        resumed=tuple(done["resumed"]), failed=tuple(done["failed"]), is_full=len(rows) == command.max
    )


def _due(command: WakeSuspendedStages, ports: Ports, passed: Sequence[uuid.UUID]) -> list[StageRun]:
    due: SuspendedRows = StageRun.objects.using(ports.using).waking(ports.clock.db_now(), ports.known_stages())
    if command.run_id is not None:
        due = due.filter(family("run", command.run_id))
    if passed:
        due = due.exclude(pk__in=passed)
    return list(due.select_related("run").defer("config", "output", "metrics")[: command.max])


def _recheck(command: WakeSuspendedStages, ports: Ports, causation_id: uuid.UUID) -> list[uuid.UUID]:
    """Look at stages that have waited for their items or a child run for a while; return those that go on."""
    due = StageRun.objects.using(ports.using).rechecked(ports.clock.db_now())
    if command.run_id is not None:
        due = due.filter(family("run", command.run_id))
    resumed = []
    for row in due.only("run", "stage", "token")[: command.max]:
        try:
            if transact(ports, causation_id, lambda work, one=row: recheck(work, one)) == "resumed":  # type: ignore[misc]
                resumed.append(row.pk)
        except (*AWAY, DatabaseError):
            raise
        except Exception:  # one bad row must not keep the others waiting
            logger.exception("waiting stage cannot be looked at run=%s stage=%s", row.run_id, row.stage)
    return resumed


def _resume_timers(rows: Sequence[StageRun], ports: Ports, causation_id: uuid.UUID) -> list[uuid.UUID]:
    """Resume all in one transaction; if that fails, each in one of its own."""
    if not rows:
        return []
    try:
        return transact(ports, causation_id, lambda work: _resume(work, rows), tries=1)
    except Exception as error:
        logger.debug("waking alone stages=%s error=%s", len(rows), error)
    resumed = []
    for row in rows:
        try:
            resumed += transact(ports, causation_id, lambda work, one=row: _resume(work, [one]))  # type: ignore[misc]
        except AWAY:
            raise
        except Exception:  # one bad row must not keep the others waiting
            logger.exception("timer cannot be ended run=%s stage=%s", row.run_id, row.stage)
    return resumed


def _resume(work: UnitOfWork, candidates: Sequence[StageRun]) -> list[uuid.UUID]:
    runs = {run.pk: run for run in work.lock_hot(sorted({row.run_id for row in candidates}))}
    due = StageRun.objects.using(work.ports.using).waking(work.now).filter(wait_kind=WaitKind.TIMER)
    resumed = []
    for row in due.filter(pk__in=[row.pk for row in candidates]).defer("config", "output", "metrics"):
        if row.run_id in runs and runs[row.run_id].status == RunStatus.RUNNING and row.resume(at=work.now):
            work.ring(row)
            resumed.append(row.pk)
    points.hit(points.WAKE_IN_TX)
    return resumed


def _expire(row: StageRun, ports: Ports, causation_id: uuid.UUID) -> Verdict:
    try:
        wait = _declared(row, ports)
        # Before the transaction: a large default goes to the blob store.
        value = _default(row, wait, ports) if wait is not None and wait.has_default else None
        return transact(ports, causation_id, lambda work: _end_wait(work, row, value))
    except (WorkflowNotFound, StageNotFound):
        # The code here does not know it (a deploy under way): a process that does decides.
        return "kept"
    except (*AWAY, DatabaseError):
        raise
    except Exception:  # one bad row must not keep the others waiting
        logger.exception("wait cannot be ended run=%s stage=%s wait=%s", row.run_id, row.stage, row.wait_name)
        return "kept"


def _declared(row: StageRun, ports: Ports) -> Wait[Any] | None:
    return ports.registry.get_workflow(row.run.workflow).get_stage(row.stage).get_wait(row.wait_name)


def _default(row: StageRun, wait: Wait[Any], ports: Ports) -> dict[str, Any]:
    root = f"runs/{row.run_id}/{row.stage}/{row.generation}.answers/{row.map_index}-{wait.name}"
    value = write(wait.data, wait.default)
    return pack(value, lambda digest: f"{root}-{digest}.json", ports.blobs, ports.limits, f"default of {wait!r}")


def _end_wait(work: UnitOfWork, candidate: StageRun, value: dict[str, Any] | None) -> Verdict:
    run = work.lock_run(candidate.run_id, skip_locked=True)
    due = StageRun.objects.using(work.ports.using).waking(work.now).filter(pk=candidate.pk, token=candidate.token)
    # Asked again under the lock: an answer may have been quicker.
    row = due.filter(wait_name=candidate.wait_name).first()
    if run is None or row is None or run.status != RunStatus.RUNNING:
        return "kept"
    if value is None:
        return _fail(work, run, row)
    facts, name = stage_event(row), row.wait_name
    work.insert(StageMemo, [memo_row(work, row, MemoKind.DEFAULT, name, value=value)])
    if not row.resume(at=work.now):
        return "kept"
    work.emit(run, StageAnswered(**facts, wait=name, by_default=True))
    work.ring(row)
    points.hit(points.WAKE_IN_TX)
    return "resumed"


def _fail(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> Verdict:
    message = f"No answer to {row.wait_name!r} has come until {row.wait_until:%Y-%m-%d %H:%M:%S} UTC."
    error = {"code": EXPIRED, "class": "TimeoutError", "message": message}
    facts = stage_event(row)
    if not row.fail_suspended(at=work.now, error=error):
        return "kept"
    work.emit(run, StageFailed(**facts, error=error))
    stage_ended(work, run, row)
    points.hit(points.WAKE_IN_TX)
    return "failed"
