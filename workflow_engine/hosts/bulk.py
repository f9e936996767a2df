"""Carrying bulk operations out: page after page as long as there is work, with a rest after each for everybody else."""

from __future__ import annotations

import time

from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CarryOutBulk
from workflow_engine.models import BulkOperation

# Runs per page, which takes a fraction of a second; and the rest after it, as a share of the time that it took.
PAGE, REST_SHARE, SHORTEST_REST_SECONDS = 50, 0.25, 0.01
# After this what somebody held is tried again.
AGAIN_SECONDS = 1.0


class BulkWork:
    """What an orchestrator does for bulk operations. Any number of processes may at the same time."""

    def __init__(self, kernel: Kernel, batch: int) -> None:
        self._kernel, self._page = kernel, min(batch, PAGE)

    def step(self) -> float | None:
        """Do a page; return after how many seconds to come back, None if nothing is under way: whoever looks for work
        sees an operation begin."""
        began = time.monotonic()
        result = self._kernel.dispatch(CarryOutBulk(max=self._page))
        if result.is_full and result.done:
            return max(SHORTEST_REST_SECONDS, REST_SHARE * (time.monotonic() - began))
        return AGAIN_SECONDS if result.under_way else None

    def is_idle(self) -> bool:
        """Whether no operation is under way."""
        return not BulkOperation.objects.using(self._kernel.ports.using).open().exists()
