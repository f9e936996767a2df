from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.management.calling import call
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.django_db
Know = Callable[..., Any]


def test_an_open_run_is_cancelled_with_its_reason(known: Know, host: InlineHost) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})

    called = call("wfe_cancel", str(run.pk), "--reason", "not needed")

    run = WorkflowRun.objects.select_related("data").get(pk=run.pk)
    assert (called.code, run.status, run.data.cancel_reason) == (0, "CANCELLED", "not needed")
    assert called.lines == [f"Run {run.pk} is cancelled."]


def test_a_run_that_has_ended_exits_with_1_and_says_how_it_ended(known: Know, host: InlineHost) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    host.drain()

    called = call("wfe_cancel", str(run.pk), "--json")

    assert called.code == 1
    assert called.json == {"run_id": str(run.pk), "cancelled": False, "status": "COMPLETED"}
    assert called.error.endswith("it is COMPLETED.")


@pytest.mark.parametrize("run_id", ["nonsense", "01890000-0000-7000-8000-000000000000"])
def test_a_run_that_does_not_exist_exits_with_3(host: InlineHost, run_id: str) -> None:
    called = call("wfe_cancel", run_id)

    assert called.code == 3
    assert called.error == f"No run {run_id!r} exists."
