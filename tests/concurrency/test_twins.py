"""Twins: the same request with the same key, from many callers at the same moment."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.models import IdempotencyKey, OutboxEvent, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
KEYS, TWINS = 200, 50


@pytest.mark.postgresql
def test_two_hundred_keys_and_fifty_twins_of_each_give_two_hundred_runs(known: Any) -> None:
    known(chain(1))

    def ask_for_all() -> list[tuple[uuid.UUID, bool]]:
        runs = [create_run("chain", {"value": key}, idempotency_key=f"key-{key}") for key in range(KEYS)]
        return [(run.pk, run.was_created) for run in runs]

    answers = together([ask_for_all] * TWINS)

    assert WorkflowRun.objects.count() == IdempotencyKey.objects.count() == OutboxEvent.objects.count() == KEYS
    for key in range(KEYS):
        given = [answer[key] for answer in answers]
        assert len({run_id for run_id, _ in given}) == 1
        assert sum(created for _, created in given) == 1
