"""Interleavings that once lost an event on the way to its subscriber; forced, not hoped for."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, connections

from tests.outbox.hearing import CHAIN, Moody, new_run
from tests.waiting import until
from workflow_engine import pause_run
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FlushOutbox
from workflow_engine.models import EventCursor, deliveries_at_once
from workflow_engine.testing import Subscriber, create_test_kernel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]
GATE = 20261126


def gate_is_waited_for() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("written", ["before", "after"])
def test_what_is_handed_on_while_a_claim_begins_is_heard_of_once(
    known: Any, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    known(CHAIN)
    sink = Moody()
    made = create_test_kernel(subscribers=[Subscriber("sink", sink, timeout=5)])
    kernel = Kernel(replace(made.ports, clock=get_kernel().ports.clock))
    # The statement has its view of the tables, and has locked no row, until the gate is open.
    gated = deliveries_at_once._CLAIM.replace(
        "WHERE subscriber = %s", f"WHERE (SELECT pg_advisory_xact_lock({GATE})) IS NOT NULL AND subscriber = %s"
    )
    assert gated != deliveries_at_once._CLAIM

    def flush() -> None:
        kernel.dispatch(FlushOutbox(subscriber="sink"))
        connections.close_all()

    with use_kernel(kernel):
        run = new_run()
        kernel.dispatch(FlushOutbox(subscriber=""))
        if written == "before":
            # The claim sees the event, and not that it is to be delivered.
            pause_run(run)
        with monkeypatch.context() as patch:
            patch.setattr(deliveries_at_once, "_CLAIM", gated)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [GATE])
            flusher = threading.Thread(target=flush)
            flusher.start()
            until(gate_is_waited_for, "the claim waits for the gate")
            if written == "after":
                pause_run(run)
            kernel.dispatch(FlushOutbox(subscriber=""))
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [GATE])
            flusher.join(30)
        while EventCursor.objects.exists():
            kernel.dispatch(FlushOutbox())

    assert sink.heard(run) == [1, 2]
