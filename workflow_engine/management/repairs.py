"""What ``wfe_doctor --fix`` does: what a tick would do, by the same commands; none of it can make things worse."""

from __future__ import annotations

from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    DeliverNotices,
    GivePlaces,
    ReapStaleLeases,
    ReapStuckRuns,
    WakeSuspendedStages,
)

# Calls of each command: none goes on for ever.
MOST_ROUNDS = 1_000
# In the order in which they are shown.
DONE = {
    "released": "stages taken back from lost workers",
    "delivered": "notices delivered",
    "resumed": "waiting stages that went on",
    "given": "places of limits given",
    "transitioned": "stuck runs moved on",
    "failed": "stages or runs failed, because nothing else can become of them",
}


def repair(kernel: Kernel) -> dict[str, int]:
    """Do what is safe, whatever is wrong; return how much was done, by the keys of ``DONE``."""
    counts = dict.fromkeys(DONE, 0)
    for step in (_reap, _deliver, _wake, _give, _move):
        step(kernel, counts)
    return counts


def _reap(kernel: Kernel, counts: dict[str, int]) -> None:
    for _ in range(MOST_ROUNDS):
        leases = kernel.dispatch(ReapStaleLeases())
        counts["released"] += len(leases.released)
        counts["failed"] += len(leases.failed)
        if not leases.released and not leases.failed:
            return


def _deliver(kernel: Kernel, counts: dict[str, int]) -> None:
    for _ in range(MOST_ROUNDS):
        notices = kernel.dispatch(DeliverNotices())
        counts["delivered"] += notices.delivered
        if not notices.is_full or not notices.delivered:
            return


def _wake(kernel: Kernel, counts: dict[str, int]) -> None:
    for _ in range(MOST_ROUNDS):
        woken = kernel.dispatch(WakeSuspendedStages())
        counts["resumed"] += len(woken.resumed)
        counts["failed"] += len(woken.failed)
        if not woken.is_full or not (woken.resumed or woken.failed):
            return


def _give(kernel: Kernel, counts: dict[str, int]) -> None:
    command = GivePlaces()
    for _ in range(MOST_ROUNDS):
        given = kernel.dispatch(command)
        counts["given"] += given.given
        if given.place is None:
            return
        command = GivePlaces(after=given.place)


def _move(kernel: Kernel, counts: dict[str, int]) -> None:
    command = ReapStuckRuns()
    for _ in range(MOST_ROUNDS):
        stuck = kernel.dispatch(command)
        counts["transitioned"] += len(stuck.transitioned)
        counts["failed"] += len(stuck.failed)
        if stuck.place is None:
            return
        command = ReapStuckRuns(after=stuck.place)
