"""One suite for the JobTransport port, over every adapter."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from workflow_engine.kernel.ports import JobTransport, Message
from workflow_engine.testing import SilentTransport
from workflow_engine.transports.database import DatabaseTransport
from workflow_engine.transports.eager import EagerTransport

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[DatabaseTransport, EagerTransport, SilentTransport])
def transport(request: Any) -> JobTransport:
    made: JobTransport = request.param()
    return made


def test_pushing_nothing_and_something_never_fails(transport: JobTransport) -> None:
    transport.push([])
    transport.push([Message("workflows"), Message("other")])

    assert isinstance(transport.depth("workflows"), int)


def test_pop_returns_messages_or_nothing_and_ack_takes_any(transport: JobTransport) -> None:
    transport.push([Message("workflows")])

    popped = transport.pop(0)
    for message in [*popped, Message("never-seen")]:
        transport.ack(message)

    assert all(isinstance(message, Message) for message in popped)


def test_the_epoch_stays_while_nothing_is_lost(transport: JobTransport) -> None:
    assert transport.epoch() == transport.epoch() != ""


def test_a_push_wakes_a_waiting_worker_of_the_same_process() -> None:
    transport = DatabaseTransport()
    transport.pop(0)
    waiting, woken = threading.Event(), threading.Event()

    def wait() -> None:
        transport.pop(0)
        waiting.set()
        began = time.monotonic()
        transport.pop(60)
        if time.monotonic() - began < 30:
            woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    transport.push([])
    thread.join(30)

    assert woken.is_set()


def test_a_push_before_the_wait_is_not_missed() -> None:
    transport = DatabaseTransport()
    transport.push([])
    began = time.monotonic()

    transport.pop(60)

    assert time.monotonic() - began < 30
