"""Idempotency keys: one effect per key, whoever asks how often, and whatever happens to those who asked before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction

from tests.concurrency.threads import together
from tests.workflows import chain
from workflow_engine import cancel_run, create_run, rerun_from
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.errors import IdempotencyInProgress
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.ports import Limits
from workflow_engine.models import IdempotencyKey, OutboxEvent, StageRun, WorkflowRun

WAITERS = 5
two_at_once = pytest.mark.skipif(settings.BACKEND == "sqlite", reason="there no two transactions write at a time")


@pytest.mark.django_db
def test_t9_a_key_stands_for_one_run_and_one_event_and_for_one_command_only(known: Any, host: InlineHost) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1}, idempotency_key="k")
    again = create_run("chain", {"value": 1}, idempotency_key="k")
    other = create_run("chain", {"value": 1}, idempotency_key="l")

    assert (again.pk, again.was_created) == (run.pk, False)
    assert (other.pk == run.pk, other.was_created) == (False, True)
    assert OutboxEvent.objects.filter(type="run.created").count() == WorkflowRun.objects.count() == 2

    cancel_run(run)
    assert rerun_from(run, "add-1", idempotency_key="k").generation == 1
    cancel_run(run)
    assert rerun_from(run, "add-1", idempotency_key="k").generation == 1
    assert set(IdempotencyKey.objects.values_list("command", flat=True)) == {"run.create", "run.rerun_from"}
    assert StageRun.objects.filter(run=run, generation=1).count() == 1


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait for twins no longer than this."""
    ports = get_kernel().ports
    limits = Limits(idempotency_wait_seconds=seconds)
    with use_kernel(Kernel(replace(ports, limits=limits))):
        yield


@contextmanager
def holding(key: str) -> Iterator[dict[str, Any]]:
    """Let somebody else have used a key in a transaction that is still open; ``how`` says how it is to end."""
    told: dict[str, Any] = {"how": "commit"}
    ready, end = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                told["run"] = create_run("chain", {"value": 1}, idempotency_key=key)
                ready.set()
                end.wait(60)
                if told["how"] == "die":
                    # What the server sees of a process that is gone.
                    connection.connection.close()
        except Exception as error:
            told["error"] = error
        finally:
            with suppress(Exception):
                connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert ready.wait(30)
        told["end"] = end
        yield told
    finally:
        end.set()
        thread.join(60)


@two_at_once
@pytest.mark.django_db(transaction=True)
def test_t56_a_key_in_progress_says_so_and_its_living_holder_is_never_doubled(known: Any) -> None:
    known(chain(1))
    with patience(1):
        with holding("k") as other:
            for _ in range(2):
                with pytest.raises(IdempotencyInProgress):
                    create_run("chain", {"value": 1}, idempotency_key="k")
            # Nobody else has to wait for it.
            assert create_run("chain", {"value": 1}, idempotency_key="another").was_created
        mine = create_run("chain", {"value": 1}, idempotency_key="k")

    assert (mine.pk, mine.was_created) == (other["run"].pk, False)
    assert WorkflowRun.objects.count() == 2


@two_at_once
@pytest.mark.django_db(transaction=True)
def test_t56_a_key_whose_holder_died_is_taken_by_one_of_those_who_wait(known: Any) -> None:
    known(chain(1))
    with patience(30), holding("k") as other:
        other["how"] = "die"
        waiting = threading.Barrier(WAITERS + 1)

        def ask() -> tuple[Any, bool]:
            waiting.wait(30)
            run = create_run("chain", {"value": 1}, idempotency_key="k")
            return run.pk, run.was_created

        def kill() -> None:
            waiting.wait(30)
            other["end"].set()

        answers = together([*[ask] * WAITERS, kill])[:WAITERS]

    assert len({run_id for run_id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert answers[0][0] != other["run"].pk
    assert WorkflowRun.objects.count() == IdempotencyKey.objects.count() == 1
