"""Receivers of webhooks that answer badly now and then, and what they have got: every request is checked and kept."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from django.conf import settings
from standardwebhooks import Webhook, WebhookVerificationError

from tests.soak.chaos.lanes import Lane
from tests.webhooks.receiver import Received, receiving
from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import CreateWebhook

# A request may be answered so badly so often. Each time it is waited for twice as long as before.
MOST_IN_A_ROW = 4
STEPS = ("run.*", "stage.retrying", "stage.failed", "stage.suspended")


class Hook:
    """One address. ``counts``: requests, by how they were answered; ``wrong`` lists those that should not have come."""

    def __init__(self, name: str, events: tuple[str, ...], *, refused: float, hangs: float, seed: int) -> None:
        self.name, self.events, self._refused, self._hangs = name, events, refused, hangs
        self._random = Random(f"{name} {seed}")
        self._path = Path(settings.SCRATCH) / f"{name}.jsonl"
        self._file = self._path.open("a")
        self.counts: Counter[str] = Counter()
        self._unheard: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.secret = ""

    def behave(self, request: Received) -> str:
        """Check a request, keep it, and say how it is answered. Called for one at a time."""
        try:
            Webhook(self.secret).verify(request.body, request.headers)
        except (WebhookVerificationError, KeyError) as error:
            self.wrong.append(f"{self.name}: a request is not signed right: {error}")
            return "400"
        # The first one is refused for certain, if any is.
        chance = self._random.random() if self.counts else self._hangs
        answer = "hang" if chance < self._hangs else "500" if chance < self._hangs + self._refused else "200"
        if self._unheard[request.id] >= MOST_IN_A_ROW:
            answer = "200"
        self.counts[answer] += 1
        if answer != "200":
            self._unheard[request.id] += 1
        run_id, _, sequence = request.id.partition(":")
        self._file.write(json.dumps([time.time(), run_id, int(sequence), answer]) + "\n")
        return answer

    def heard(self) -> list[tuple[float, str, int]]:
        """Return what was accepted, in the order in which it came."""
        self._file.flush()
        lines = map(json.loads, self._path.read_text().splitlines())
        return [(at, run_id, sequence) for at, run_id, sequence, answer in lines if answer == "200"]

    def forget(self) -> None:
        self._file.truncate(0)
        self.counts.clear()
        self._unheard.clear()
        self.wrong.clear()


@contextmanager
def hooks(seed: int, lane: Lane) -> Iterator[list[Hook]]:
    """Receive webhooks for two addresses: one hears of the ends of runs and hangs too, one of stages as well."""
    both = [
        Hook("ends", ("run.*",), refused=lane.refused[0], hangs=lane.hang, seed=seed),
        Hook("steps", STEPS, refused=lane.refused[1], hangs=0, seed=seed),
    ]
    first, second = both
    with receiving(first.behave) as one, receiving(second.behave) as two:
        for hook, receiver in ((first, one), (second, two)):
            # Only the last few: it would keep all of them.
            receiver.received = deque(maxlen=10)  # type: ignore[assignment]
            made = get_kernel().dispatch(CreateWebhook(url=receiver.url, description=hook.name, events=hook.events))
            hook.secret = made.secret
        yield both
