"""The daily pass over what is old, by the project's ``RETENTION``."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from workflow_engine.conf import DEFAULTS, get_setting
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Prune, PruneResult
from workflow_engine.kernel.stray_blobs import YOUNGEST
from workflow_engine.statuses import FINISHED_RUN

from .loops import Loop

logger = logging.getLogger(__name__)
DAY_SECONDS = 24 * 3600.0
# A process that has just started has other things to do first.
FIRST_SECONDS = (600.0, 1800.0)
# After a page it rests so many times as long as that took.
REST_SHARE, SHORTEST_REST_SECONDS = 3.0, 0.05


@dataclass(frozen=True, slots=True)
class Rule:
    """What is deleted after how long; ``what`` is that of ``Prune``."""

    what: str
    older_than: timedelta
    statuses: tuple[str, ...] = FINISHED_RUN

    def command(self, *, most: int, dry_run: bool = False) -> Prune:
        return Prune(what=self.what, older_than=self.older_than, statuses=self.statuses, max=most, dry_run=dry_run)


def rules() -> Iterator[Rule]:
    """Yield what the settings say, in the order in which it is done."""
    kept = {**DEFAULTS["RETENTION"], **get_setting("RETENTION")}
    for what in ("events", "logs", "deliveries"):
        if kept[what] is not None:
            yield Rule(what, timedelta(days=kept[what]))
    days = kept["runs"]
    by_status = days if isinstance(days, dict) else dict.fromkeys(FINISHED_RUN, days)
    for status, limit in by_status.items():
        if limit is not None:
            yield Rule("runs", timedelta(days=limit), (str(status),))
    yield Rule("keys", timedelta(days=get_setting("IDEMPOTENCY_KEEP_DAYS")))
    for what in ("workers", "bulk", "schedules"):
        if kept[what] is not None:
            yield Rule(what, timedelta(days=kept[what]))
    yield Rule("limits", timedelta(days=1))
    if kept["blobs"] is not None:
        yield Rule("blobs", max(timedelta(days=kept["blobs"]), YOUNGEST))


class Pruner:
    """Does a pass a day, page by page, with rests. What several processes do is done once."""

    def __init__(self, kernel: Kernel, batch: int) -> None:
        self._kernel, self._batch = kernel, batch
        self._commands: list[Prune] | None = None
        # What the pass could not delete: how many, and why one of them stays.
        self._kept: dict[str, tuple[int, str]] = {}
        self.loop = Loop("prune", self.step, DAY_SECONDS)

    def step(self) -> float:
        """Do a page; return after how many seconds to come back."""
        if self._commands is None:
            # The first pass of this process is still to come.
            self._commands = []
            return random.uniform(*FIRST_SECONDS)  # noqa: S311 - not a secret
        if not self._commands:
            today = datetime.now(UTC).date().isoformat()
            self._commands = [replace(rule.command(most=self._batch), once=today) for rule in rules()]
        began = time.monotonic()
        command = self._commands[0]
        result = self._kernel.dispatch(command)
        self._note(command, result)
        if result.place is None:
            self._commands.pop(0)
        else:
            self._commands[0] = replace(command, after=result.place)
        if not self._commands:
            self._tell()
            return DAY_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - not a secret
        return max(SHORTEST_REST_SECONDS, REST_SHARE * (time.monotonic() - began))

    def _note(self, command: Prune, result: PruneResult) -> None:
        if result.kept:
            count, refusal = self._kept.get(command.what, (0, result.refusal))
            self._kept[command.what] = count + result.kept, refusal

    def _tell(self) -> None:
        """Say once per pass what stays although it is old."""
        for what, (count, refusal) in self._kept.items():
            logger.warning("old %s cannot be deleted count=%s one=%s", what, count, refusal)
        self._kept = {}
