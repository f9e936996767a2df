"""Calls of subscribers: in time, in threads of their own, and given up if they hang."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime

import pytest

from tests.waiting import until
from workflow_engine.definitions import RunEvent
from workflow_engine.errors import DeliveryTimeout
from workflow_engine.sinks.calls import MOST_HANGING, TimedSink

EVENT = RunEvent(
    "x:1", uuid.UUID(int=1), "w", 1, 0, "run.created", {}, uuid.UUID(int=2), datetime(2026, 1, 1, tzinfo=UTC)
)


def test_calls_are_made_by_one_thread_after_the_other() -> None:
    names: list[str] = []
    tidied: list[int] = []
    sink = TimedSink("s", lambda event: names.append(threading.current_thread().name), 5, lambda: tidied.append(1))

    for _ in range(3):
        sink.emit(EVENT)

    assert names == ["wfe-sink-s"] * 3
    assert len(tidied) == 3


def test_an_error_is_the_callers() -> None:
    def fails(event: RunEvent) -> None:
        raise LookupError("no such customer")

    with pytest.raises(LookupError, match="no such customer"):
        TimedSink("s", fails, 5, lambda: None).emit(EVENT)


def test_calls_that_hang_are_left_behind_and_after_a_few_no_more_are_made() -> None:
    let_go = threading.Event()
    calls: list[int] = []

    def hangs(event: RunEvent) -> None:
        calls.append(1)
        let_go.wait(30)

    sink = TimedSink("s", hangs, 0.01, lambda: None)
    for _ in range(MOST_HANGING):
        with pytest.raises(DeliveryTimeout, match=r"s took longer than 0\.01 s"):
            sink.emit(EVENT)

    with pytest.raises(DeliveryTimeout, match="3 earlier calls of s have not returned yet"):
        sink.emit(EVENT)

    assert (len(calls), sink.hanging) == (MOST_HANGING, MOST_HANGING)
    let_go.set()
    until(lambda: sink.hanging == 0, "the calls have returned")
    sink.emit(EVENT)
    assert len(calls) == MOST_HANGING + 1
