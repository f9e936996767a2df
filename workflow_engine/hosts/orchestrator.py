"""The tick: what must happen even if nobody was told. A safety net; each step is isolated from the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from workflow_engine.conf import get_setting
from workflow_engine.executors.held import Lease
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ClaimPendingRuns, ReapStaleLeases
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowRun

logger = logging.getLogger(__name__)
# Rows looked at to find the queues in which something waits.
MOST_WAITING = 100


def waiting_queues(ports: Ports, queues: Sequence[str] | None = None) -> list[str]:
    """Return those of ``queues`` (None: of all) in which something is due now; two statements."""
    now, known = ports.clock.db_now(), ports.known_workflows()
    wanted = None if queues is None else list(queues)
    stages = StageRun.objects.using(ports.using).startable(now, wanted, known).values("queue")[:MOST_WAITING]
    runs = WorkflowRun.objects.using(ports.using).claimable(now, known)
    found = {row["queue"] for row in stages}
    for plan in runs.values_list("data__plan", flat=True)[:MOST_WAITING]:
        found |= {item["queue"] for group in plan["groups"][:1] for item in group["stages"]}
    return sorted(found if wanted is None else found & set(wanted))


class Orchestrator:
    """Any number of processes may tick at the same time."""

    def __init__(
        self, kernel: Kernel, *, claims: bool = True, batch: int | None = None, lease: Lease | None = None
    ) -> None:
        self._kernel, self._lease = kernel, lease
        self._batch = batch or get_setting("TICK_BATCH")
        self.steps: dict[str, Callable[[], int]] = {"reap_leases": self._reap, "ring": self._ring}
        if claims:
            # Workers of the database transport claim by themselves, when they can start what they claim.
            self.steps = {"claim": self._claim, **self.steps}

    def tick(self) -> dict[str, int]:
        """Run every step; return how much each did. Raises the last error once all have had their turn."""
        counts, failed = {}, None
        for name, step in self.steps.items():
            try:
                counts[name] = step()
            except Exception as error:
                logger.debug("step failed step=%s", name, exc_info=True)
                failed = error
        if failed is not None:
            raise failed
        return counts

    def _claim(self) -> int:
        return len(self._kernel.dispatch(ClaimPendingRuns(max_claims=self._batch)).claimed)

    def _ring(self) -> int:
        """Ring for what is due and waits, where no message does: the transport may have lost them."""
        if self._kernel.ports.transport.polls:
            return 0
        queues = waiting_queues(self._kernel.ports)
        self._kernel.ports.transport.refill(queues)
        return len(queues)

    def _reap(self) -> int:
        # Who could not beat itself (the database was away) does not judge others by their silence.
        if self._lease is not None and self._lease.is_fresh_after_gap:
            return 0
        result = self._kernel.dispatch(ReapStaleLeases(max=self._batch))
        return len(result.released) + len(result.failed)
