"""The lanes: how many processes, how much load, which faults, for how long, and what must have been seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Of a lease: who is frozen for so long has lost it for sure.
FROZEN_LEASES = 3
SHORT_TIMES = {"LEASE_SECONDS": 5, "BEAT_SECONDS": 1, "TICK_SECONDS": 1, "GRACE_SECONDS": 3, "MAX_CRASHES": 3}
WEBHOOKS = {
    "WEBHOOK_ALLOW_HTTP": True, "WEBHOOK_ALLOW_PRIVATE": True, "WEBHOOK_PORTS": [], "WEBHOOK_TIMEOUT": 2,
    "WEBHOOK_MAX_ATTEMPTS": 12,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Lane:
    """``single`` workers run stages only; those under a supervisor also look after lost ones, as by default."""

    name: str
    seconds: float
    # The mean time between two faults.
    every: float
    runs_per_second: float
    supervised: int = 2
    single: int = 2
    orchestrators: int = 2
    threads: int = 4
    # None: no faults. Empty: all kinds of them.
    acts: tuple[str, ...] | None = ()
    # Of the requests to the two webhooks, how many are refused; of those to the first, how many hang.
    refused: tuple[float, float] = (0.05, 0.05)
    hang: float = 0.01
    # For so long nothing may end once the faults are over while something is open.
    liveness: float = 120
    # After each round everything is checked and forgotten, so that a long lane needs no more memory than a short one.
    rounds: int = 1
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return {**SHORT_TIMES, **WEBHOOKS, **self.engine}

    @property
    def lease(self) -> float:
        return float(self.settings["LEASE_SECONDS"])

    @property
    def taken_back_within(self) -> float:
        """How long after a kill a stage must have been taken back: a lease, a beat of grace, and a tick."""
        return self.lease + float(self.settings["BEAT_SECONDS"]) + float(self.settings["TICK_SECONDS"])


CI = Lane(
    name="ci",
    seconds=60,
    every=4,
    runs_per_second=2,
    supervised=2,
    single=1,
    orchestrators=1,
    acts=("kill-worker", "kill-orchestrator", "kill-client", "redis-flush"),
    liveness=60,
    engine={"LEASE_SECONDS": 3, "MAX_CRASHES": 2},
)
FULL = Lane(name="full", seconds=600, every=2, runs_per_second=3)
# Nobody is killed, but one subscriber is as bad as it can be: do the others notice?
SINKS = Lane(name="sinks", seconds=180, every=2, runs_per_second=3, acts=None, refused=(0.5, 0.0))
LANES = {lane.name: lane for lane in (CI, FULL, SINKS)}
