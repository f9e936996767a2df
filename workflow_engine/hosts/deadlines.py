"""Runs whose time is over fail at that time, not at the next tick."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper, Value

from workflow_engine.conf import get_setting
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ExpireRuns
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import WorkflowRun
from workflow_engine.models.base import constant
from workflow_engine.statuses import RunStatus

from .loops import Loop

# Whose run is held by somebody is tried again so soon.
AGAIN_SECONDS = 0.05


class Deadlines:
    """A loop that sleeps until the next deadline, for a tick at most: other hosts claim runs with deadlines too.

    It costs a worker one statement per tick, and nothing where no workflow has a timeout.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._longest = float(get_setting("TICK_SECONDS"))
        self._until = float("inf")
        self.loop = Loop("deadlines", self.step, self._longest)

    @classmethod
    def needed(cls, kernel: Kernel) -> bool:
        return any(workflow.timeout is not None for workflow in kernel.ports.registry.registered_workflows())

    def step(self) -> float:
        """Fail the runs whose time is over; return in how many seconds the next one's will be."""
        # Whatever is expected from here on may be missing in what is read below.
        self._until = float("inf")
        due = self._due_in()
        if due is not None and due <= 0:
            self._kernel.dispatch(ExpireRuns())
            due = self._due_in()
        wait = self._longest if due is None else min(self._longest, max(due, AGAIN_SECONDS))
        self._until = time.monotonic() + wait
        return wait

    def expect(self, started: Iterable[StartedStage]) -> None:
        """Look again now if the run of one of these may have to end before the next look."""
        for stage in started:
            timeout = stage.data.plan.get("timeout") if stage.group_number == 1 and stage.data is not None else None
            if timeout is not None and time.monotonic() + timeout < self._until:
                self.loop.wake()
                return

    def _due_in(self) -> float | None:
        """Return in how many seconds the next run's time is over; None: no run has a deadline."""
        now: Any = self._kernel.ports.clock.db_now()
        if not hasattr(now, "resolve_expression"):
            now = Value(now)
        runs = WorkflowRun.objects.using(self._kernel.ports.using)
        bounded = runs.filter(status=constant(RunStatus.RUNNING), deadline_at__isnull=False).order_by("deadline_at")
        found = bounded.values_list("deadline_at", ExpressionWrapper(now, DateTimeField())).first()
        return None if found is None else (found[0] - found[1]).total_seconds()
