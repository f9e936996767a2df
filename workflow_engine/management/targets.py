"""What ``wfe_pause`` and ``wfe_resume`` are about: a run, a workflow or a queue."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass
from typing import Any

from workflow_engine.running import run_id_of
from workflow_engine.statuses import PauseScope

from .command import USAGE, Refusal


@dataclass(frozen=True, slots=True)
class Target:
    """``scope`` is ``run``, ``workflow`` or ``queue``; ``name`` the id or name."""

    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope.capitalize()} {self.name}"


def add_target(parser: ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="Id of the run.")
    parser.add_argument("--workflow", metavar="ID", help="All runs of this workflow.")
    parser.add_argument("--queue", metavar="NAME", help="All stages in this queue.")
    parser.add_argument("--reason", default="", help="Shown where people ask why nothing happens.")


def read_target(options: dict[str, Any]) -> Target:
    """Return what was named. Raises ``Refusal`` unless that is exactly one thing, ``RunNotFound`` for a bad id."""
    named = {scope: options[scope] for scope in ("run", *PauseScope.values) if options[scope] is not None}
    if len(named) != 1:
        message = f"Name one of RUN, --workflow ID and --queue NAME, got {', '.join(named) or 'none'}."
        raise Refusal(message, returncode=USAGE, code="USAGE")
    ((scope, name),) = named.items()
    return Target(scope, str(run_id_of(name)) if scope == "run" else name)
