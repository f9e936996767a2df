"""Messages between the hosts of a schedule: they may get lost, come twice, late, or in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workflow_engine.kernel.ports import JobTransport, Message

from .faults import Faults


@dataclass(slots=True)
class Network:
    """What was pushed and not taken yet, with the time at which it arrives."""

    faults: Faults
    now: Callable[[], float]
    # Wakes one of those who wait, at a time.
    wake: Callable[[float], None]
    waiting: list[tuple[float, Message]] = field(default_factory=list)
    epochs: int = 0

    def push(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if self.faults.strikes("message lost", message.queue):
                continue
            copies = 2 if self.faults.strikes("message doubled", message.queue) else 1
            for _ in range(copies):
                late = self.faults.amount(5, 60) if self.faults.strikes("message late", message.queue) else 0.0
                self.waiting.append((self.now() + late, message))
                self.wake(self.now() + late)

    def take(self) -> list[Message]:
        there = [pair for pair in self.waiting if pair[0] <= self.now()]
        if not there:
            return []
        taken = there[self.faults.pick(len(there))]
        self.waiting.remove(taken)
        return [taken[1]]

    def forget(self) -> None:
        """Lose everything, as an emptied Redis does."""
        self.waiting.clear()
        self.epochs += 1


class SimulatedTransport(JobTransport):
    """One process's connection to the network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def push(self, messages: Sequence[Message]) -> None:
        self._network.push(messages)

    def pop(self, wait: float) -> list[Message]:
        return self._network.take()

    def ack(self, message: Message) -> None:
        """What was taken is gone."""

    def depth(self, queue: str) -> int:
        return sum(message.queue == queue for _, message in self._network.waiting)

    def epoch(self) -> str:
        return str(self._network.epochs)

    def refill(self, queues: Sequence[str]) -> None:
        self._network.push([Message(queue) for queue in queues if not self.depth(queue)])

    @property
    def polls(self) -> bool:
        return False
