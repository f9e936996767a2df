"""What open transactions of callers and bodies kept waiting; each was reproduced first."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

from tests.waiting import until
from tests.waits import batch
from tests.workflows import chain
from workflow_engine import Completion, cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import StaleLease
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    PollSuspendedStages,
    ReleaseStages,
)
from workflow_engine.kernel.commands.remember import Remember
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageMemo, StageRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)


class OpenBody(threading.Thread):
    """A body that has remembered a sub-step in a transaction of its own, which stays open until it may ``leave``."""

    def __init__(self, kernel: Kernel, started: StartedStage) -> None:
        super().__init__()
        self.kernel, self.started = kernel, started
        self.entered, self.leave = threading.Event(), threading.Event()

    def run(self) -> None:
        with transaction.atomic():
            self.kernel.dispatch(Remember(stage=self.started, name="step", value=inline(1)))
            self.entered.set()
            self.leave.wait(60)
        connections.close_all()


@pytest.fixture
def open_body(known: Callable[..., Any]) -> Iterator[OpenBody]:
    known(chain(1))
    create_run("chain", {"value": 1})
    kernel = get_kernel()
    body = OpenBody(kernel, InlineHost(kernel).take()[0])
    body.start()
    assert body.entered.wait(30)
    yield body
    body.leave.set()
    body.join(30)


@pytest.mark.postgresql
def test_a_body_that_remembers_in_a_transaction_that_stays_open_holds_up_no_cancel(open_body: OpenBody) -> None:
    assert within(10, lambda: cancel_run(open_body.started.run_id))


@pytest.mark.postgresql
def test_an_attempt_that_waits_for_what_an_earlier_one_remembers_holds_up_no_cancel(open_body: OpenBody) -> None:
    kernel, first = open_body.kernel, open_body.started
    kernel.dispatch(ReleaseStages(worker_id=first.worker_id, tokens={first.pk: first.token}))
    (again,) = InlineHost(kernel).take()
    lost: list[StaleLease] = []

    def remember() -> None:
        try:
            kernel.dispatch(Remember(stage=again, name="step", value=inline(2)))
        except StaleLease as error:
            lost.append(error)
        connections.close_all()

    waiting = threading.Thread(target=remember)
    waiting.start()
    try:
        until(waits_for_a_lock, "it waits for the earlier attempt")
        assert within(10, lambda: cancel_run(again.run_id))
    finally:
        open_body.leave.set()
        waiting.join(30)

    assert len(lost) == 1
    assert StageMemo.objects.get().get_value() == 1


@pytest.mark.postgresql
def test_a_beat_that_gives_back_a_check_does_not_wait_for_somebody_who_cancels(known: Callable[..., Any]) -> None:
    known(batch(Completion.pending))
    kernel, worker_id = get_kernel(), uuid.uuid4()
    run = create_run("batch")
    InlineHost(kernel).drain()
    StageRun.objects.update(wake_at=kernel.ports.clock.now() - timedelta(hours=1))
    (check,) = kernel.dispatch(PollSuspendedStages(worker_id=worker_id)).claimed
    cancelled, leave = threading.Event(), threading.Event()

    def cancel() -> None:
        with transaction.atomic():
            cancel_run(run)
            cancelled.set()
            leave.wait(60)
        connections.close_all()

    caller = threading.Thread(target=cancel)
    caller.start()
    assert cancelled.wait(30)
    released = ReleaseStages(worker_id=worker_id, tokens={check.stage.pk: check.stage.token}, skip_locked=True)
    try:
        assert within(10, lambda: kernel.dispatch(released))
    finally:
        leave.set()
        caller.join(30)


def within(seconds: float, do: Callable[[], object]) -> bool:
    """Say whether a thread of its own does it in time."""

    def run() -> None:
        do()
        connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("earlier", [None, OperationalError("database is locked"), OperationalError(2006, "gone")])
def test_a_check_that_breaks_the_callers_transaction_ends_with_an_error_and_not_in_an_endless_wait(
    earlier: OperationalError | None,
    known: Callable[..., Any],
    kernel: Kernel,
    host: InlineHost,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What broke an earlier transaction of this connection, as Django keeps it.
    monkeypatch.setattr(connections["default"], "rollback_exc", earlier)

    def check() -> Completion[str]:
        connection.set_rollback(True)
        return Completion.ready("done")

    known(batch(check))
    create_run("batch")
    host.drain()
    clock.advance(timedelta(seconds=30))
    # Should it wait all the same, this test fails and does not hang.
    timer = threading.Timer(20, host._lane._stopping.set)
    timer.start()

    with pytest.raises(TransactionManagementError), transaction.atomic():
        host.drain()

    assert not host._lane._stopping.is_set()
    timer.cancel()
