"""The tick: what must happen even if nobody was told. A safety net; each step is isolated from the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from workflow_engine.conf import get_setting
from workflow_engine.executors.held import Lease
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    CarryOutBulk,
    ClaimPendingRuns,
    ExpireRuns,
    FireSchedules,
    FlushOutbox,
    GivePlaces,
    ReapStaleLeases,
    ReapStuckRuns,
    ReapUnknown,
)
from workflow_engine.kernel.waiting import ring_again

logger = logging.getLogger(__name__)
SELDOM = 6


class Orchestrator:
    """Any number of processes may tick at the same time."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        claims: bool = True,
        loops: bool = True,
        batch: int | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._kernel, self._lease = kernel, lease
        self._batch = batch or get_setting("TICK_BATCH")
        # How far the janitors have come: each tick looks at a part of what lives.
        self._stuck = ReapStuckRuns(max=self._batch, pages=1)
        self._unknown = ReapUnknown(max=self._batch)
        self._places = GivePlaces(max=self._batch)
        self.steps: dict[str, Callable[[], int]] = {"reap_leases": self._reap, "ring": self._ring}
        if claims:
            # Workers of the database transport claim by themselves, when they can start what they claim.
            self.steps = {"claim": self._claim, **self.steps}
        if loops:
            # Workers have loops for these, which go on between the ticks.
            self.steps |= {"schedules": self._fire, "bulk": self._bulk, "flush": self._flush}
        # What goes wrong seldom, and whose cost a worker with nothing to do would pay again and again.
        self.seldom: dict[str, Callable[[], int]] = {
            "reap_unknown": self._reap_unknown,
            "expire_runs": self._expire,
            "give_places": self._give_places,
            "reap_stuck": self._reap_stuck,
        }
        self._ticks = 0

    def tick(self) -> dict[str, int]:
        """Run the steps; return how much each did. Raises the last error once all have had their turn.

        The seldom ones have their turn at the first tick and at every sixth from there.
        """
        counts, failed = {}, None
        steps = self.steps if self._ticks % SELDOM else {**self.steps, **self.seldom}
        self._ticks += 1
        for name, step in steps.items():
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

    def _fire(self) -> int:
        """Do what is due by its time."""
        return self._kernel.dispatch(FireSchedules(max=self._batch)).fired

    def _bulk(self) -> int:
        """Carry bulk operations on by one page."""
        return self._kernel.dispatch(CarryOutBulk(max=self._batch)).done

    def _flush(self) -> int:
        """Deliver events, to one subscriber after the other."""
        made = self._kernel.dispatch(FlushOutbox(max=self._batch))
        return made.delivered + made.replayed

    def _expire(self) -> int:
        return len(self._kernel.dispatch(ExpireRuns(max=self._batch)).expired)

    def _give_places(self) -> int:
        """Look at the limits for which runs wait, though nobody has said that a place is free."""
        result = self._kernel.dispatch(self._places)
        self._places = GivePlaces(max=self._batch, after=result.place or "")
        if result.unknown:
            # Nobody gives those a place; does anybody at all know them?
            self._unknown = replace(self._unknown, lines=True)
        return result.given

    def _reap(self) -> int:
        # Who could not beat itself (the database was away) does not judge others by their silence.
        if self._lease is not None and self._lease.is_fresh_after_gap:
            return 0
        result = self._kernel.dispatch(ReapStaleLeases(max=self._batch))
        return len(result.released) + len(result.failed)

    def _reap_unknown(self) -> int:
        # The same holds for what others are not heard to know.
        if self._lease is not None and self._lease.is_fresh_after_gap:
            return 0
        result = self._kernel.dispatch(self._unknown)
        self._unknown = ReapUnknown(
            max=self._batch,
            runs_after=result.runs_place,
            stages_after=result.stages_place,
            suspended_after=result.suspended_place,
            line_after=result.line_place,
        )
        return len(result.marked) + len(result.cleared) + len(result.failed)

    def _ring(self) -> int:
        """Ring for what waits where no message does: the transport may lose them."""
        return len(ring_again(self._kernel.ports))

    def _reap_stuck(self) -> int:
        """Move what nothing moves."""
        result = self._kernel.dispatch(self._stuck)
        self._stuck = ReapStuckRuns(max=self._batch, after=result.place, pages=1)
        return len(result.transitioned) + len(result.failed)
