"""Hostile values as people type them: into a terminal, and into a form."""

from __future__ import annotations

from collections.abc import Iterator

from .corpus import VALUES
from .test_requests import RAW, TEXTS


def texts() -> Iterator[tuple[str, str]]:
    """Yield names and texts; what is no UTF-8 as Python gets it from a terminal."""
    yield from ((name, VALUES[name]()) for name in TEXTS)
    yield from ((name, raw.decode("utf-8", "surrogateescape")) for name, raw in RAW.items())
    yield from (
        ("a path", "@/etc/passwd"),
        ("a missing file", "@/nowhere/at/all"),
        ("a dash", "-"),
        ("an option", "--help"),
    )
