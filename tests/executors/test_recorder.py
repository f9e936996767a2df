"""Log lines and progress while the database is away."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.executors.held import Held
from workflow_engine.executors.recorder import Recorder
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import WorkflowLog

pytestmark = pytest.mark.django_db(transaction=True)


def away(*_: Any, **__: Any) -> Any:
    raise OperationalError("the database is away")


def started(host: InlineHost) -> Held:
    create_run("chain", {"value": 1})
    (stage,) = host.take()
    return Held(stage)


def test_that_nothing_can_be_written_is_said_once_until_something_was(
    known: Any, kernel: Kernel, host: InlineHost, caplog: pytest.LogCaptureFixture
) -> None:
    known(chain(1))
    recorder, first, second = Recorder(kernel.ports), started(host), started(host)
    caplog.set_level(logging.WARNING, logger="workflow_engine")

    with connection.execute_wrapper(away):
        recorder.log(first, "INFO", "before the end", {})
        recorder.flush()
        # With its lines there is nothing left to write, and so nothing is known of the database.
        first.lost.set()
        recorder.flush()
        recorder.log(second, "INFO", "kept", {})
        recorder.flush()
    said = [record for record in caplog.records if "cannot be written" in record.message]
    assert len(said) == 1
    recorder.flush()
    with connection.execute_wrapper(away):
        recorder.log(second, "INFO", "kept too", {})
        recorder.flush()
    recorder.flush()

    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 2
    assert list(WorkflowLog.objects.order_by("pk").values_list("message", flat=True)) == ["kept", "kept too"]
