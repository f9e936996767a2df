"""Started attempts, and executors of each kind that run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tests.executors.bodies import WORKFLOWS
from tests.executors.running import Answers
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.executors.loop import LoopExecutor
from workflow_engine.executors.processes import ProcessExecutor
from workflow_engine.executors.recorder import Recorder
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.started import StartedStage

Start = Callable[..., StartedStage]


@pytest.fixture
def start(known: Any) -> Start:
    """Return a function that starts the only stage of a workflow (or of ``WORKFLOWS``, by its name)."""

    def start(workflow: Workflow[Any, Any] | str, **input: Any) -> StartedStage:
        definition = WORKFLOWS[workflow] if isinstance(workflow, str) else workflow
        run = create_run(known(definition), input)
        return InlineHost(get_kernel()).take(run.pk)[0]

    return start


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(get_kernel().ports)


@pytest.fixture
def loop(recorder: Recorder) -> Iterator[LoopExecutor]:
    executor = LoopExecutor(get_kernel().ports, recorder)
    executor.start()
    yield executor
    executor.stop()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def children_see_the_test_database(django_db_setup: None) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "tests.executors.settings")
        patch.setenv("WFE_TEST_BACKEND", settings.BACKEND)
        patch.setenv("WFE_TEST_DATABASE_NAME", str(connection.settings_dict["NAME"]))
        yield patch


@pytest.fixture(scope="module")
def processes(children_see_the_test_database: pytest.MonkeyPatch) -> Iterator[ProcessExecutor]:
    """Return an executor whose children stay warm for all tests of the module."""
    executor = ProcessExecutor(get_kernel().ports)
    yield executor
    executor.stop()
