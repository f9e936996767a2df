"""``stage.remember``: an attempt keeps the result of a sub-step for the attempts that follow."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connections, transaction

from workflow_engine.errors import StaleLease
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import StartedStage
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageMemo, StageRun
from workflow_engine.models.base import lock_rows
from workflow_engine.statuses import MemoKind, StageStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class RememberResult:
    # What is known under this name from here on.
    memo: StageMemo
    # False: an earlier call had stored it, and its value counts.
    stored: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Remember(Command[RememberResult]):
    """Keep a value for the stage run, under a name that is unique in it; the first value of a name counts.

    It changes no state, so the run is not locked. In a transaction of the body's own neither is the stage's row: a
    cancel would wait for that transaction, and so would whoever finishes this stage after its timeout.

    Args:
        value: its envelope.

    Raises:
        StaleLease: the attempt's token is void; nothing was written.
    """

    type = "stage.remember"
    stage: StartedStage
    name: str
    value: dict[str, Any]
    kind: MemoKind = MemoKind.ONCE


@handles(Remember)
def remember(command: Remember, ports: Ports, causation_id: uuid.UUID) -> RememberResult:
    joins = connections[ports.using].in_atomic_block
    return transact(ports, causation_id, lambda work: _remember(work, command, joins))


def _remember(work: UnitOfWork, command: Remember, joins: bool) -> RememberResult:
    using, stage = work.ports.using, command.stage
    known = StageMemo.objects.using(using).filter(stage_run=stage.stage_run_id, kind=command.kind, name=command.name)
    memo, stored = known.first(), False
    if memo is None:
        # Before the stage's row is locked, since the insert may have to wait for one of an earlier attempt.
        memo, stored = _insert(work, command), True
        if memo is None:
            memo, stored = known.get(), False
    rows = StageRun.objects.using(using).filter(pk=stage.stage_run_id, token=stage.token, status=StageStatus.RUNNING)
    # Whoever voids the token changes this row: until the commit it is ours.
    held = rows if joins else lock_rows(rows)
    if held.values_list("pk").first() is None:
        raise StaleLease(
            f"Stage {stage.stage_id!r} of run {stage.run_id}: attempt {stage.attempt} is not held any more."
        )
    return RememberResult(memo=memo, stored=stored or (work.repeated and memo.token == stage.token))


def _insert(work: UnitOfWork, command: Remember) -> StageMemo | None:
    """Insert the memo; None: another call has stored one under this name meanwhile."""
    using, stage = work.ports.using, command.stage
    memo = StageMemo(
        run_id=stage.run_id,
        stage_run_id=stage.stage_run_id,
        kind=command.kind,
        name=command.name,
        value=command.value,
        token=stage.token,
        created_at=work.now,
    )
    try:
        with transaction.atomic(using=using):
            memo.save(using=using, force_insert=True)
    except IntegrityError:
        return None
    return memo
