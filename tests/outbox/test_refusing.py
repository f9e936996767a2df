"""Subscribers that say when to come again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.outbox.hearing import CHAIN, Hearing, new_run
from workflow_engine.definitions import RunEvent
from workflow_engine.errors import DeliveryRefused
from workflow_engine.models import EventCursor
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("asked", "seconds"), [(30.0, 30), (-5.0, 0), (float("nan"), 0), (1e9, 3600)])
def test_a_sink_may_say_when_to_come_again_within_an_hour(
    clock: FakeClock, known: Any, asked: float, seconds: int
) -> None:
    known(CHAIN)
    with Hearing(clock, one={}) as hearing:
        new_run()

        def refuses(event: RunEvent) -> bool:
            raise DeliveryRefused("later\x00", after=asked)

        hearing["one"].refuses = refuses
        hearing.flush()

    cursor = EventCursor.objects.get()
    assert (cursor.tries, cursor.error) == (1, "later\ufffd")
    # And a second with its jitter, as after any failure.
    assert seconds <= (cursor.due_at - clock.now()).total_seconds() <= max(seconds, 1.2)


def test_a_sink_that_rests_is_asked_no_more_and_no_try_is_lost(clock: FakeClock, known: Any) -> None:
    known(CHAIN)
    with Hearing(clock, one={}) as hearing:
        for _ in range(3):
            new_run()

        def refuses(event: RunEvent) -> bool:
            raise DeliveryRefused("busy", rest=60, counts=False)

        hearing["one"].refuses = refuses
        made = hearing.flush()
        hearing.wait(59)
        hearing.flush()
        assert sum(hearing["one"].asked.values()) == 1
        hearing["one"].refuses = lambda event: False
        hearing.wait(1)
        after = hearing.flush()

    assert (made.rest, made.failed, made.delivered) == (60, 0, 0)
    assert after.delivered == 3


def test_a_try_is_numbered(clock: FakeClock, known: Any) -> None:
    known(CHAIN)
    with Hearing(clock, tries=5, one={}) as hearing:
        new_run()
        hearing["one"].refuses = lambda event: event.attempt < 3
        for _ in range(3):
            hearing.flush()
            hearing.wait(3)

    assert [event.attempt for event in hearing["one"].events] == [3]
