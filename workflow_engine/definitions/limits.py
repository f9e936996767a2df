"""Limits: how many runs of a workflow may be under way at the same time, and begin in a span of time."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput

MAX_KEY_LENGTH = 200
LONGEST_SPAN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``most`` runs begin within any span of ``per`` (up to a day)."""

    most: int
    per: timedelta

    def __post_init__(self) -> None:
        _check_most("Rate", self.most)
        if not (isinstance(self.per, timedelta) and timedelta(0) < self.per <= LONGEST_SPAN):
            raise InvalidDefinition(f"Rate: per must be a timedelta above 0 and up to a day, got {self.per!r}.")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``most`` runs are under way at the same time: all of the workflow's, or those with the same key.

    A run takes its place before it begins and keeps it until it ends, also while it is suspended or paused. Runs that
    wait are PENDING and take no worker's time; those of one key never hold up those of another.

    Args:
        most: None: any number, and only ``rate`` counts.
        key: gets the run's input, as its type makes it, and returns whose limit it is: text, a number or a UUID.
            None: this run is not limited. It is called when the run is created, not later.
        rate: how many may begin in a span of time, by the same key.
    """

    most: int | None = None
    key: Callable[[Any], Any] | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        if self.most is None and self.rate is None:
            raise InvalidDefinition("Limit: say how many runs, Limit(10), or how many per time, Limit(rate=Rate(…)).")
        if self.most is not None:
            _check_most("Limit", self.most)
        if self.key is not None and not callable(self.key):
            raise InvalidDefinition(
                f"Limit: key must be a function that takes the run's input and returns text, got {self.key!r}."
            )
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise InvalidDefinition(f"Limit: rate must be Rate(most, per), got {self.rate!r}.")

    def key_of(self, workflow_id: str, input: Any) -> str | None:
        """Return the key of a run with this input, ``""`` if all runs share the limit; None: it is not limited.

        Raises:
            InvalidInput: the key function raised, or returned what is no key.
        """
        if self.key is None:
            return ""
        try:
            found = self.key(input)
        except Exception as error:
            raise _refused(workflow_id, f"its key function raised {type(error).__name__}: {error}"[:500]) from error
        if isinstance(found, Enum):
            found = found.value
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, str | int | uuid.UUID):
            raise _refused(workflow_id, f"its key must be text, a whole number, a UUID or None, got {found!r}"[:300])
        text = str(found)
        if not text or not text.isprintable():
            raise _refused(workflow_id, f"its key must be printable text, got {text[:100]!r}")
        if len(text) > MAX_KEY_LENGTH:
            # Cut, and still another one for every other text.
            digest = hashlib.sha256(text.encode()).hexdigest()
            text = f"{text[: MAX_KEY_LENGTH - 33]}…{digest[:32]}"
        return text


def _check_most(what: str, most: Any) -> None:
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InvalidDefinition(f"{what}: most must be a whole number of 1 or more, got {most!r}.")


def _refused(workflow_id: str, problem: str) -> InvalidInput:
    return InvalidInput(f"the limit of workflow {workflow_id!r}", [FieldError("concurrency.key", problem)])
