"""Arguments of commands: JSON in three ways, and numbers within bounds."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from .command import USAGE, Refusal

LONGEST_NUMBER = 4


def read_json(text: str, option: str) -> Any:
    """Return the JSON that ``text`` is, or that it names: ``@file``, or ``-`` for the standard input.

    Raises:
        Refusal: it cannot be read, or it is not JSON; the text says where.
    """
    source, content = _content(text, option)
    try:
        return json.loads(content)
    except ValueError as error:
        raise _refuse(f"{option}: {source} is not JSON: {error}.") from error
    except RecursionError as error:
        raise _refuse(f"{option}: {source} is nested too deeply.") from error


def _content(text: str, option: str) -> tuple[str, str]:
    if text == "-":
        return "the standard input", sys.stdin.read()
    if not text.startswith("@"):
        return "the value", text
    file = Path(text[1:])
    try:
        return f"the file {str(file)!r}", file.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _refuse(f"{option}: the file {str(file)!r} cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise _refuse(f"{option}: the file {str(file)!r} is not UTF-8: {error.reason}.") from error


def _refuse(message: str) -> Refusal:
    return Refusal(message, returncode=USAGE, code="USAGE")


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Return a type for argparse: a whole number from ``lowest`` to ``highest``."""

    def read(text: str) -> int:
        number = int(text) if text.lstrip("-").isdecimal() else None
        if number is None or number < lowest or (highest is not None and number > highest):
            raise ArgumentTypeError(f"must be a whole number {_bounds(lowest, highest)}, got {text!r}")
        return number

    return read


def _bounds(lowest: int, highest: int | None) -> str:
    return f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # `not >=` refuses NaN too.
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"must be a number of seconds, 0 or more, got {text!r}")
    return number


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """Read a length of time for argparse: a whole number and a unit, ``90s``, ``15m``, ``12h``, ``7d``, ``2w``."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or len(number) > LONGEST_NUMBER or unit not in _UNITS:
        raise ArgumentTypeError(f"must be a whole number and one of s, m, h, d and w, such as 7d, got {text!r}")
    return timedelta(**{_UNITS[unit]: int(number)})


def names(text: str) -> list[str]:
    """Read names separated by commas, for argparse."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise ArgumentTypeError(f"must be names separated by commas, got {text!r}")
    return found
