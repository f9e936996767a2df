"""Attempts that the thread of their body finishes: atomic stages, and those with ``on_complete`` effects.

What these functions do not settle is left in ``ended.result``, to be finished in a transaction of its own under the
same causation id and with ``again``: a COMMIT may have landed without an answer, which the token decides.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import Error, connections, transaction
from django.db.transaction import TransactionManagementError

from workflow_engine.definitions.results import Completed, Failed, Result
from workflow_engine.definitions.stages import Stage
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, InvalidDefinition
from workflow_engine.executors.attempts import Attempt, failure
from workflow_engine.executors.held import Held
from workflow_engine.executors.recorder import Recorder
from workflow_engine.kernel import Kernel, points
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Finished, FinishStages, Outcome
from workflow_engine.kernel.conflicts import is_conflict, is_lost
from workflow_engine.kernel.effects import EffectFailed
from workflow_engine.kernel.ports import Ports

from .ended import Ended

logger = logging.getLogger(__name__)
CONFLICT = "ATOMIC_CONFLICT"
AWAY_SECONDS, MOST_AWAY_SECONDS = 0.1, 5.0
Starting = Callable[[], Starter | None]


def finish_with_effects(kernel: Kernel, ended: Ended, starting: Starting) -> Finished | None:
    """Finish an attempt, calling its functions for ``on_complete`` in the finishing transaction; None: it has failed.

    While the database is away it is tried again, as long as the attempt is held.
    """
    held, wait = ended.held, AWAY_SECONDS
    while not _is_over(held):
        outcome = ended.outcome()
        command = FinishStages(outcomes=(outcome,), starter=_starter(outcome, starting), again=True)
        try:
            return kernel.dispatch(command, causation_id=ended.causation_id).finished[0]
        except DatabaseUnavailable as error:
            logger.warning("result kept for later run=%s error=%s", held.stage.run_id, error)
            kernel.ports.clock.pause(wait)
            wait = min(2 * wait, MOST_AWAY_SECONDS)
        except EffectFailed as error:
            ended.result = _failed(kernel.ports, ended, error.error)
            return None
        except Exception as error:
            logger.exception("effects cannot be stored run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
            ended.result = _failed(kernel.ports, ended, error)
            return None
    return Finished(held.stage.stage_run_id, "ghost")


def run_atomic(kernel: Kernel, recorder: Recorder, held: Held, starting: Starting) -> tuple[Ended, Finished | None]:
    """Run the body of an atomic stage, and finish it, in one transaction: everything commits, or nothing does.

    No lock of the engine is taken before the last step, and nothing is tried twice: an error there, or at the COMMIT,
    is a failed attempt (None).
    """
    ports = kernel.ports
    attempt = Attempt(ports, held, recorder)
    ended: Ended | None = None
    try:
        refuse_endless(ports, attempt.stage)
        context = attempt.open()
        with transaction.atomic(using=ports.using):
            ended = Ended.now(held, _run_body(ports, attempt, context))
            finished = _finish_inside(kernel, ended, starting)
        points.hit(points.COMPLETE_AFTER)
        return ended, finished
    except _Ghost as ghost:
        return ghost.ended, Finished(held.stage.stage_run_id, "ghost")
    except points.Crash:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        told = _told(attempt, error)
        if ended is None:
            return Ended.now(held, told), None
        # Rolled back, unless it was the answer to the COMMIT that was lost, or a hook of the body's after it.
        logger.warning("atomic finish failed run=%s stage=%s", held.stage.run_id, held.stage.stage_id, exc_info=error)
        ended.result = told
        return ended, None


class _Ghost(Exception):
    """Somebody else has the stage now: roll back."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended


class _NotFinished(Exception):
    """The last step lost against others, or its connection; ``__cause__`` says why."""


def refuse_endless(ports: Ports, stage: Stage[Any, Any, Any]) -> None:
    """Refuse a body that could keep all of SQLite's writers, and so this worker's beats, waiting for too long.

    Raises:
        InvalidDefinition: final; the text has the fix.
    """
    if connections[ports.using].vendor == "sqlite" and (problem := endless(stage, ports.limits.lease_seconds)):
        raise InvalidDefinition(problem)


def endless(stage: Stage[Any, Any, Any], lease_seconds: float) -> str | None:
    """Say what keeps an atomic stage from running on SQLite, where one transaction excludes all other writers."""
    if stage.timeout is not None and stage.timeout.total_seconds() < lease_seconds / 2:
        return None
    return (
        f"Stage {stage.id!r}: atomic=True on SQLite needs a timeout below half of LEASE_SECONDS, so below "
        f"{lease_seconds / 2:g} s, got {stage.timeout!r}: until the body ends nobody else can write, not even "
        "the beats of this worker."
    )


def _run_body(ports: Ports, attempt: Attempt, context: Any) -> Completed:
    connection = connections[ports.using]
    depth = len(connection.savepoint_ids)
    output = attempt.stage.body(context)
    if connection.closed_in_transaction or connection.needs_rollback or len(connection.savepoint_ids) != depth:
        raise TransactionManagementError(
            f"the body of stage {attempt.stage.id!r} closed its connection, broke its transaction or left one open. "
            "Put what may fail into a transaction.atomic() of its own."
        )
    return attempt.complete(attempt.check(output))


def _finish_inside(kernel: Kernel, ended: Ended, starting: Starting) -> Finished:
    if _is_over(ended.held):
        raise _Ghost(ended)
    outcome = ended.outcome()
    command = FinishStages(outcomes=(outcome,), starter=_starter(outcome, starting))
    try:
        finished = kernel.dispatch(command, causation_id=ended.causation_id).finished[0]
    except (DatabaseConflict, DatabaseUnavailable) as error:
        raise _NotFinished from error
    if finished.kind == "ghost":
        raise _Ghost(ended)
    return finished


def _told(attempt: Attempt, error: BaseException) -> Result:
    """Return what is stored of an attempt whose transaction was rolled back, or whose COMMIT was not answered."""
    if isinstance(error, EffectFailed):
        return attempt.failed(error.error)
    if isinstance(error, _NotFinished):
        return _lost_race(attempt, error.__cause__ or error)
    if isinstance(error, Error) and (is_conflict(error) or is_lost(error)):
        return _lost_race(attempt, error)
    return attempt.ended_by(error)


def _lost_race(attempt: Attempt, error: BaseException) -> Failed:
    failed = attempt.failed(error)
    return replace(failed, error=replace(failed.error, code=CONFLICT))


def _failed(ports: Ports, ended: Ended, error: BaseException) -> Failed:
    stage = ended.held.stage
    policy = ports.registry.get_workflow(stage.workflow_id).get_stage(stage.stage_id).retry
    return failure(error, policy, ended.held, ended.result.notes)


def _starter(outcome: Outcome, starting: Starting) -> Starter | None:
    return starting() if outcome.may_go_on else None


def _is_over(held: Held) -> bool:
    """Whether nothing of the attempt is to be kept; somebody else tells how it ended. Else its token decides."""
    return held.lost.is_set() or held.timed_out
