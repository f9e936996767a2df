"""Events as Django signals."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.dispatch import Signal

from workflow_engine.kernel.subscribers import Committed
from workflow_engine.models import WorkflowRun
from workflow_engine.signals import run_finished, run_started, stage_finished

logger = logging.getLogger(__name__)
RUN_ENDS = {"run.completed": "COMPLETED", "run.failed": "FAILED", "run.cancelled": "CANCELLED"}
STAGE_ENDS = {
    "stage.completed": "COMPLETED",
    "stage.failed": "FAILED",
    "stage.skipped": "SKIPPED",
    "stage.cancelled": "CANCELLED",
}


class DjangoSignals:
    """Sends what somebody listens to."""

    @property
    def is_heard(self) -> bool:
        return bool(run_started.receivers or run_finished.receivers or stage_finished.receivers)

    def tell(self, committed: Sequence[Committed]) -> None:
        for run_id, workflow_id, event_type, payload in committed:
            facts: dict[str, Any] = {"run_id": run_id, "workflow_id": workflow_id}
            if event_type == "run.started":
                _send(run_started, facts)
            elif event_type in RUN_ENDS:
                _send(run_finished, {**facts, "status": RUN_ENDS[event_type]})
            elif event_type in STAGE_ENDS:
                stage = {"stage_id": payload["stage_id"], "item_index": payload.get("item_index")}
                _send(stage_finished, {**facts, **stage, "status": STAGE_ENDS[event_type]})


def _send(signal: Signal, facts: dict[str, Any]) -> None:
    for receiver, result in signal.send_robust(WorkflowRun, **facts):
        if isinstance(result, Exception):
            name = getattr(receiver, "__qualname__", type(receiver).__name__)
            logger.warning("signal receiver failed receiver=%s error=%s: %s", name, type(result).__name__, result)
