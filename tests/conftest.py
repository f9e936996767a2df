"""What every test can use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings

from tests import emptying
from tests.backends.databases import run_id
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.plugins import plugins_override
from workflow_engine.definitions.registry import register, registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.testing import FakeClock, create_test_kernel

REDIS_URL = os.environ.get("WFE_TEST_REDIS_URL", "")


@pytest.fixture(scope="session")
def backend() -> str:
    """Return the database backend of this process: ``sqlite``, ``postgresql`` or ``mariadb``."""
    return str(settings.BACKEND)


@pytest.fixture(autouse=True, scope="session")
def no_plugins() -> Iterator[None]:
    """Let the example's plugins hear of nothing: tests that want some have their own."""
    with plugins_override():
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kernel(clock: FakeClock, db: None) -> Iterator[Kernel]:
    """Return a kernel with a frozen clock, which the public functions use too."""
    with use_kernel(create_test_kernel(clock=clock)) as kernel:
        yield kernel


@pytest.fixture
def host(kernel: Kernel) -> InlineHost:
    """Return a host that runs what is due in the test's own thread."""
    return InlineHost(kernel)


@pytest.fixture
def unpaused() -> Iterator[None]:
    """Let the process's own kernel forget the pauses of this test, whose rows are deleted behind its back."""
    yield
    get_kernel().ports.pause_cache.forget()


@pytest.fixture
def known() -> Iterator[Callable[..., Any]]:
    """Return a function that registers workflows for this test only and returns the first."""
    with registry_override():

        def know(*workflows: Workflow[Any, Any]) -> Workflow[Any, Any]:
            for workflow in workflows:
                register(workflow)
            return workflows[0]

        yield know


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what says the same on every database, unless this is the first of them."""
    if settings.BACKEND != "sqlite":
        elsewhere = [item for item in items if item.get_closest_marker("one_database")]
        if elsewhere:
            config.hook.pytest_deselected(items=elsewhere)
            items[:] = [item for item in items if not item.get_closest_marker("one_database")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("postgresql") and settings.BACKEND != "postgresql":
        pytest.skip("needs PostgreSQL")
    if item.get_closest_marker("redis") and not REDIS_URL:
        pytest.skip("needs Redis: WFE_TEST_REDIS_URL is empty")


def pytest_report_header() -> str:
    return f"backend: {settings.BACKEND} ({os.environ.get('WFE_TEST_SOURCE', 'plain pytest')})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"backend: {settings.BACKEND}")


def pytest_configure() -> None:
    emptying.install()
    settings.SCRATCH.mkdir(exist_ok=True)


def pytest_unconfigure() -> None:
    # Only the process that named the run owns its directory: others share it.
    if run_id().startswith(f"{os.getpid()}_"):
        shutil.rmtree(settings.SCRATCH, ignore_errors=True)
