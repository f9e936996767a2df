"""Calling a command as a shell would: what it printed, and its exit code."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    error: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """Return what the last line holds."""
        return json.loads(self.lines[-1])

    @property
    def jsons(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


def call(*arguments: str, out: io.StringIO | None = None) -> Called:
    """Call a command with its arguments; 0 if it does not fail."""
    out, err, code, error = out or io.StringIO(), io.StringIO(), 0, ""
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as refused:
        code, error = refused.returncode, str(refused)
    return Called(code, out.getvalue(), f"{err.getvalue()}{error}")
