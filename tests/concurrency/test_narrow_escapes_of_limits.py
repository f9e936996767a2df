"""Interleavings that once exceeded a limit, lost its notice, or made everybody wait; each forced, not hoped for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from tests.concurrency.threads import together
from tests.limits.workflows import Order, by_tenant, limited
from workflow_engine import cancel_run, create_run, pause_run, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Limit
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import DeliverNotices, GivePlaces
from workflow_engine.kernel.unit_of_work import UnitOfWork
from workflow_engine.models import RunNotice, RunPlace, WorkflowRun
from workflow_engine.statuses import OPEN_RUN

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(settings.BACKEND == "sqlite", reason="there no two transactions write at a time"),
]


def elsewhere(*acts: Callable[[], Any]) -> list[Any]:
    """Do these in connections of their own, and wait until they are done."""
    return together(list(acts))


def held() -> int:
    return RunPlace.objects.held().filter(run__status__in=OPEN_RUN).count()


@contextmanager
def once_before(owner: Any, name: str, act: Callable[[], Any]) -> Iterator[None]:
    """Do something in another connection just before the next call of a method."""
    real, done = getattr(owner, name), threading.Event()

    def wrapped(*args: Any, **options: Any) -> Any:
        if not done.is_set():
            done.set()
            elsewhere(act)
        return real(*args, **options)

    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, real)
    assert done.is_set()


def test_a_caller_that_reruns_in_an_open_transaction_holds_up_nobody(known: Any) -> None:
    known(by_tenant(1))
    kernel = get_kernel()
    first = create_run("limited", Order(tenant="a"))
    kernel.dispatch(DeliverNotices())
    cancel_run(first)
    second, other = (create_run("limited", Order(tenant=tenant)) for tenant in "ab")

    with transaction.atomic():
        rerun_from(first, "load")
        elsewhere(lambda: kernel.dispatch(DeliverNotices()), lambda: kernel.dispatch(GivePlaces()))
        elsewhere(lambda: kernel.dispatch(DeliverNotices()))
        places = dict(RunPlace.objects.values_list("run_id", "status"))
    kernel.dispatch(DeliverNotices())

    assert (places[second.pk], places[other.pk]) == ("HELD", "HELD")
    assert RunPlace.objects.get(run=first).status == "WAITING"


def test_who_is_paused_when_it_is_its_turn_lets_the_next_one_go(known: Any) -> None:
    known(limited(Limit(1)))
    first, second = create_run("limited", Order()), create_run("limited", Order())

    with once_before(UnitOfWork, "lock_runs", lambda: pause_run(first)):
        get_kernel().dispatch(DeliverNotices())

    assert list(RunPlace.objects.held().values_list("run_id", flat=True)) == [second.pk]


def test_a_run_that_somebody_holds_lets_the_next_one_go_and_is_looked_at_again(known: Any) -> None:
    known(limited(Limit(2)))
    kernel = get_kernel()
    first, second = create_run("limited", Order()), create_run("limited", Order())

    with transaction.atomic():
        assert WorkflowRun.objects.select_for_update().get(pk=first.pk)
        elsewhere(lambda: kernel.dispatch(DeliverNotices()))
        assert list(RunPlace.objects.held().values_list("run_id", flat=True)) == [second.pk]
        for _ in range(3):
            elsewhere(lambda: kernel.dispatch(GivePlaces()))
        left = RunNotice.objects.filter(kind="place")
        # One for each look, and not one for each run that is held.
        assert set(left.values_list("run_id", flat=True)) == {first.pk}
    left.update(due_at=first.created_at)
    kernel.dispatch(DeliverNotices())

    assert held() == 2
    assert not RunNotice.objects.exists()


@pytest.mark.postgresql
def test_who_counts_by_an_older_view_of_the_tables_gives_nothing(known: Any) -> None:
    known(limited(Limit(1)))
    kernel = get_kernel()
    warm = create_run("limited", Order())
    kernel.dispatch(DeliverNotices())
    cancel_run(warm)
    kernel.dispatch(DeliverNotices())
    create_run("limited", Order(), priority=1)
    # So that one of the two has no notice to delete, by which it would be found out.
    RunNotice.objects.all().delete()
    in_tx, seen = threading.Event(), threading.Event()

    def give(command: Any) -> Callable[[], Any]:
        def act() -> Any:
            from psycopg import IsolationLevel

            connection.ensure_connection()
            connection.connection.isolation_level = IsolationLevel.REPEATABLE_READ
            return kernel.dispatch(command)

        return act

    def pass_by(name: str) -> None:
        if name == points.PLACE_IN_TX and not in_tx.is_set():
            in_tx.set()
            seen.wait(30)

    def late() -> Any:
        in_tx.wait(30)
        create_run("limited", Order(), priority=9)
        with transaction.atomic():
            # Its view of the tables is from before the other's commit.
            connection.ensure_connection()
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT 1 FROM workflow_engine_runplace")
            seen.set()
            first.join(30)
            try:
                return kernel.dispatch(GivePlaces())
            except Exception as error:
                transaction.set_rollback(True)
                return type(error).__name__

    before = points.install(pass_by)
    try:
        first = threading.Thread(target=lambda: (give(GivePlaces())(), connections.close_all()))
        first.start()
        (found,) = elsewhere(late)
    finally:
        points.install(before)
        first.join(30)

    assert found == "DatabaseConflict"
    assert held() == 1
