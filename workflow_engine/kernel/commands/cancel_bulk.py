"""``bulk.cancel``: a bulk operation goes no further; what it has done stays done."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import BulkOperationNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import BulkOperation, BulkTarget
from workflow_engine.statuses import BulkStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelBulkResult:
    # False: it had ended already.
    cancelled: bool
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelBulk(Command[CancelBulkResult]):
    """Leave the runs that a bulk operation is not done with as they are. Raises ``BulkOperationNotFound``."""

    type = "bulk.cancel"
    operation_id: uuid.UUID


@handles(CancelBulk)
def cancel_bulk(command: CancelBulk, ports: Ports, causation_id: uuid.UUID) -> CancelBulkResult:
    # An earlier try of this call, whose answer was lost, may be what has cancelled it.
    return transact(ports, causation_id, lambda work: _cancel(work, command))


def _cancel(work: UnitOfWork, command: CancelBulk) -> CancelBulkResult:
    using = work.ports.using
    rows = BulkOperation.objects.using(using).filter(pk=command.operation_id)
    ended = rows.end(BulkStatus.CANCELLED, work.now)
    operation = rows.first()
    if operation is None:
        raise BulkOperationNotFound(command.operation_id)
    if not ended:
        return CancelBulkResult(
            cancelled=work.repeated and operation.status == BulkStatus.CANCELLED, status=operation.status
        )
    # Waits for the runs that are being changed just now: they are done, and count.
    BulkTarget.objects.using(using).drop(operation.pk)
    operation.count()
    points.hit(points.BULK_END_IN_TX)
    return CancelBulkResult(cancelled=True, status=BulkStatus.CANCELLED)
