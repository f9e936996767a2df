"""Attempts whose bodies have ended, on their way into the database."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from workflow_engine.definitions.results import Result
from workflow_engine.executors.held import Held
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Finished, Outcome
from workflow_engine.kernel.started import StartedStage

logger = logging.getLogger(__name__)
# A thread goes on with the same run for this long; then waiting work of higher rank has its turn.
CHAIN_STAGES, CHAIN_SECONDS = 100, 2.0
# With the items of a map, which may be thousands, for this long only.
CHAIN_SECONDS_OF_ITEMS = 0.5


@dataclass(eq=False, slots=True)
class Ended:
    held: Held
    result: Result
    elapsed: timedelta
    causation_id: uuid.UUID = field(default_factory=uuid.uuid4)
    # Tries in which somebody held its run.
    missed: int = 0
    warned: bool = False

    @classmethod
    def now(cls, held: Held, result: Result) -> Ended:
        return cls(held, result, timedelta(seconds=time.monotonic() - held.began))

    def outcome(self) -> Outcome:
        held = self.held
        longest = CHAIN_SECONDS if held.stage.item_index is None else CHAIN_SECONDS_OF_ITEMS
        goes_on = held.chain < CHAIN_STAGES and time.monotonic() - held.chain_began < longest
        return Outcome(held.stage, self.result, self.elapsed, may_go_on=goes_on)


def say_if_refused(stage: StartedStage, finished: Finished) -> None:
    """Log that the database took nothing of an attempt: it belonged to somebody else by then, or its run has ended."""
    if finished.kind == "ghost":
        logger.info("result refused run=%s stage=%s", stage.run_id, stage.stage_id)


class Bodies(Protocol):
    """Whoever runs bodies: the ``Runner``."""

    def make(self, started: StartedStage, before: Held | None = None) -> Held:
        """Return the attempt as this process holds it; ``before`` is the one in whose place it goes on."""
        ...

    def launch(self, started: Sequence[Held]) -> None: ...
    def spread(self, after: float = 0) -> None: ...
    def settle(self, ended: Sequence[Held], followings: Sequence[Held]) -> list[Held]:
        """Let what follows stand where others have ended; return what was not held before."""
        ...


class Supply(Protocol):
    """Whoever decides what this process takes: the ``Worker``."""

    def continue_with(self, ended: Sequence[Held]) -> Starter | None:
        """Return with what the places of those that end may go on; None: with nothing."""
        ...

    def refill(self) -> int:
        """Take more; return how many attempts were started."""
        ...

    def slot_freed(self) -> None: ...
    def stage_suspended(self) -> None:
        """A stage waits from now on: something may be due for it sooner than for all others."""
        ...
