"""When a failed attempt is tried again, and how long to wait before it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow_engine.errors import (
    ChildFailed,
    ChildTooDeep,
    InvalidDefinition,
    InvalidInput,
    InvalidOutput,
    InvalidPayload,
    MissingStageOutput,
    TooManyItems,
)


class NonRetryableError(Exception):
    """Raise it in a body to fail the stage at once, whatever its policy says."""


class RetryAfter(Exception):
    """Raise it in a body to be tried again after ``delay``; it counts as one attempt of the policy."""

    def __init__(self, delay: timedelta | float, message: str = "") -> None:
        """``delay``: a timedelta or seconds, 0 or more. Raises ``ValueError``."""
        if _is_number(delay):
            delay = timedelta(seconds=delay)  # type: ignore[arg-type]
        if not isinstance(delay, timedelta) or delay < timedelta(0):
            raise ValueError(f"RetryAfter takes a timedelta or seconds, 0 or more, got {delay!r}")
        self.delay = delay
        super().__init__(message or f"asked to be tried again after {delay.total_seconds():g} s")


# Trying again cannot help: the same value would be refused again.
FINAL_ERRORS = (
    NonRetryableError,
    InvalidDefinition,
    InvalidInput,
    InvalidOutput,
    InvalidPayload,
    MissingStageOutput,
    TooManyItems,
    ChildFailed,
    ChildTooDeep,
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with jitter.

    Before attempt ``n + 1`` it waits ``initial * factor ** (n - 1)``, at most ``maximum``, give or take the share
    ``jitter`` (0.1 = up to 10 % sooner or later, so that many failures do not return in one wave).

    Args:
        max_attempts: tries in all, the first included; 1 = never again.
        no_retry_on: exception classes that fail the stage at once.

    Raises:
        InvalidDefinition: a value makes no sense.
    """

    max_attempts: int = 3
    initial: timedelta = timedelta(seconds=2)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=10)
    jitter: float = 0.1
    no_retry_on: tuple[type[BaseException], ...] | type[BaseException] = ()

    def __post_init__(self) -> None:
        checks: list[tuple[str, Any, bool, str]] = [
            ("max_attempts", self.max_attempts, _is_int(self.max_attempts) and self.max_attempts >= 1, "1 or more"),
            ("initial", self.initial, _is_delta(self.initial), "a timedelta of 0 or more"),
            ("maximum", self.maximum, _is_delta(self.maximum), "a timedelta of 0 or more"),
            ("factor", self.factor, _is_number(self.factor) and self.factor >= 1, "a number of 1 or more"),
            ("jitter", self.jitter, _is_number(self.jitter) and 0 <= self.jitter <= 1, "a number from 0 to 1"),
        ]
        for field, value, fits, right in checks:
            if not fits:
                raise InvalidDefinition(f"Retry({field}={value!r}): {field} must be {right}.")
        if self.initial > self.maximum:
            raise InvalidDefinition(
                f"Retry(initial={self.initial!r}, maximum={self.maximum!r}): initial must not be above maximum."
            )
        classes = self.no_retry_on if isinstance(self.no_retry_on, tuple) else (self.no_retry_on,)
        for item in classes:
            if not (isinstance(item, type) and issubclass(item, BaseException)):
                raise InvalidDefinition(f"Retry(no_retry_on=…): {item!r} is not an exception class.")
        object.__setattr__(self, "no_retry_on", classes)

    def delay_after(self, error: BaseException | None, failures: int) -> timedelta | None:
        """Return how long to wait after ``failures`` failed attempts, or None if the stage fails for good."""
        if failures >= self.max_attempts:
            return None
        if error is not None and isinstance(error, (*FINAL_ERRORS, *self.no_retry_on)):  # type: ignore[misc]
            return None
        if isinstance(error, RetryAfter):
            return error.delay
        # factor ** 1000 overflows; past 64 doublings every policy has reached its maximum anyway.
        seconds = self.initial.total_seconds() * self.factor ** min(failures - 1, 64)
        seconds = min(seconds, self.maximum.total_seconds())
        return timedelta(seconds=seconds * (1 + self.jitter * random.uniform(-1, 1)))  # noqa: S311 - not a secret


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_delta(value: Any) -> bool:
    return isinstance(value, timedelta) and value >= timedelta(0)
