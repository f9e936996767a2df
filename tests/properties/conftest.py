"""What the long profile needs besides its settings."""

from __future__ import annotations

import faulthandler

import pytest

from .profiles import IS_LONG


@pytest.fixture(autouse=True)
def patience() -> None:
    """Let a test of the long profile take longer than any other may before its process is ended."""
    if IS_LONG:
        faulthandler.cancel_dump_traceback_later()
