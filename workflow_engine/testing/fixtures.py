"""Fixtures for pytest: ``pytest_plugins = ["workflow_engine.testing.fixtures"]`` in ``conftest.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .crash_report import CrashReport
from .crashing import crash_test as _crash_test


@pytest.fixture
def crash_test(db: Any) -> Callable[..., CrashReport]:
    """Return ``workflow_engine.testing.crash_test`` with its reports checked: an unsafe stage fails the test."""

    def check(*args: Any, **options: Any) -> CrashReport:
        report = _crash_test(*args, **options)
        report.check()
        return report

    return check
