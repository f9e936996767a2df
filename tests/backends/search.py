"""Looking for a server: named by the environment, running here, started from this machine's binaries, or bundled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

Way = Callable[[ExitStack], "Server"]
WAYS = ("local", "path", "bundled")


@dataclass(frozen=True)
class Server:
    """A server that answers: its URL, and in words where it came from."""

    url: str
    source: str


@dataclass(frozen=True)
class Absent:
    """No server, and why; ``blocking`` if somebody named a server which does not answer."""

    reason: str
    blocking: bool = False


class NotHere(Exception):
    """One way to a server leads nowhere; the message says why."""


def search(stack: ExitStack, *, named_by: str, named: Callable[[str], Server], **ways: Way) -> Server | Absent:
    """Return the server of the first way that leads to one; ``stack`` stops it if we started it.

    ``ways`` are ``local``, ``path`` and ``bundled``; ``WFE_TEST_SERVERS`` keeps one of them. The server that the
    variable ``named_by`` names comes before all others and must answer: nothing replaces it in silence.
    """
    only = only_way()
    if only is None and (url := os.environ.get(named_by)):
        try:
            return named(url)
        except NotHere as error:
            return Absent(f"{named_by} is set, but {error}", blocking=True)
    return first({name: way for name, way in ways.items() if only in (None, name)}, stack)


def only_way() -> str | None:
    """Return the one way that ``WFE_TEST_SERVERS`` allows, or None for all."""
    only = os.environ.get("WFE_TEST_SERVERS") or "auto"
    if only not in ("auto", *WAYS):
        raise SystemExit(f"Unknown WFE_TEST_SERVERS {only!r}. Use one of: auto, {', '.join(WAYS)}.")
    return None if only == "auto" else only


def first(ways: Mapping[str, Way], stack: ExitStack) -> Server | Absent:
    reasons = []
    for way in ways.values():
        try:
            return way(stack)
        except NotHere as error:
            reasons.append(str(error))
    return Absent("; ".join(reasons) or f"none with WFE_TEST_SERVERS={only_way()}")
