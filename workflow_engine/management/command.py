"""The base of the engine's commands: ``--json``, documented exit codes, and refusals that programs can read."""

from __future__ import annotations

import getpass
import json
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError

from workflow_engine.errors import (
    AlreadyAnswered,
    BulkOperationNotFound,
    FieldError,
    IdempotencyConflict,
    InvalidConfig,
    InvalidInput,
    InvalidPayload,
    InvalidTransition,
    NotWaiting,
    RunNotFound,
    ScheduleNotFound,
    StageNotFound,
    WorkflowEngineError,
    WorkflowNotFound,
)
from workflow_engine.kernel.payloads import text_problem

COMPLETED, FAILED, USAGE, CANCELLED, NOT_FOUND, TIMEOUT, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 3, 4, 5, 130
# As of a program that SIGPIPE has ended.
UNREAD = 141
_USAGE_ERRORS = (
    IdempotencyConflict,
    InvalidConfig,
    InvalidInput,
    InvalidPayload,
    InvalidTransition,
    StageNotFound,
    WorkflowNotFound,
)


class Refusal(CommandError):
    """The command could not do what it was asked for; with ``--json`` it is printed as an object too."""

    def __init__(self, message: str, *, returncode: int, code: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message, returncode=returncode)
        self.code, self.errors = code, tuple(errors)

    def as_json(self) -> dict[str, Any]:
        fields = [{"path": error.path, "message": error.message} for error in self.errors]
        return {"error": {"code": self.code, "message": str(self), "fields": fields}}


class _Help(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the lines of the epilog as they are."""


class EngineCommand(BaseCommand):
    """Parse, call, print. ``exit_codes`` is shown by ``--help``."""

    exit_codes: ClassVar[Mapping[int, str]] = {}

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        codes = "\n".join(f"  {code:<3} {meaning}" for code, meaning in sorted(self.exit_codes.items()))
        return super().create_parser(
            prog_name, subcommand, formatter_class=_Help, epilog=f"exit codes:\n{codes}", **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON, for programs.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; whatever the engine or the database refuses becomes a ``Refusal`` with its exit code."""
        try:
            _check_texts(options)
            return super().execute(*args, **options)
        except (Refusal, WorkflowEngineError, DatabaseError) as error:
            refusal = error if isinstance(error, Refusal) else refusal_of(error)
            if options.get("as_json"):
                self.say_json(refusal.as_json())
            # Django prints the name of the class before the text.
            raise CommandError(str(refusal), returncode=refusal.returncode) from error
        except BrokenPipeError:
            # Whoever reads this, ``head`` say, has seen enough. Python would flush once more at its end, and complain.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            raise SystemExit(UNREAD) from None

    def say(self, text: str = "") -> None:
        """Print a line now, also into a pipe; letters that the output's encoding lacks are spelled out."""
        reconfigure = getattr(self.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        self.stdout.write(text)
        self.stdout.flush()

    def say_json(self, data: Any) -> None:
        """Print JSON on one line."""
        self.say(json.dumps(data, cls=DjangoJSONEncoder))


def _check_texts(options: Mapping[str, Any]) -> None:
    """Raise ``Refusal`` for arguments that no database takes: bytes that are no UTF-8 reach Python as half pairs."""
    problems = []
    for name, value in options.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and (problem := text_problem(text)):
                problems.append(FieldError(name, problem))
    if problems:
        lines = ["Invalid arguments:", *(f"  {item}" for item in problems)]
        raise Refusal("\n".join(lines), returncode=USAGE, code=InvalidInput.code, errors=problems)


def refusal_of(error: WorkflowEngineError | DatabaseError) -> Refusal:
    """Return the refusal that stands for an error of the engine or the database."""
    if isinstance(error, DatabaseError):
        message = f"The database does not answer as it should: {error}. Are its tables there? manage.py migrate"
        return Refusal(message, returncode=UNAVAILABLE, code="DATABASE_ERROR")
    if isinstance(error, InvalidInput | InvalidConfig):
        lines = [f"{error.what} of {error.subject}:", *(f"  {item}" for item in error.errors)]
        return Refusal("\n".join(lines), returncode=USAGE, code=error.code, errors=error.errors)
    returncode = UNAVAILABLE
    if isinstance(error, RunNotFound | BulkOperationNotFound | ScheduleNotFound):
        returncode = NOT_FOUND
    elif isinstance(error, NotWaiting | AlreadyAnswered):
        # What was asked for is right, but too early or too late.
        returncode = FAILED
    elif isinstance(error, _USAGE_ERRORS):
        returncode = USAGE
    return Refusal(str(error), returncode=returncode, code=error.code)


def whoami() -> str:
    """Return who runs the command, for the run's history; nothing if the system does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
