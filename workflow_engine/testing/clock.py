"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Implements ``Clock``; the database's time is the same constant."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def db_now(self) -> datetime:
        return self._now

    def pause(self, seconds: float) -> None:
        self.advance(timedelta(seconds=seconds))

    def advance(self, delta: timedelta) -> None:
        self._now += delta

    def move_to(self, when: datetime) -> None:
        """Go forward to ``when``; a time that has passed changes nothing."""
        self._now = max(self._now, when)
