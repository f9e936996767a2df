"""What stands in JSON columns, read so that one value that cannot be read hides no other."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from django.db.models import TextField
from django.db.models.functions import Cast

UNREADABLE = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
MOST_TEXT = 300


def as_text(column: str) -> Cast:
    """Return a JSON column as the text that is stored: Python's reader would stop at the first row that is broken."""
    return Cast(column, TextField())


def read_json(text: str | None) -> tuple[Any, str]:
    """Return the value (None: there is none, or it cannot be read) and what is wrong with it."""
    if text is None or text == "{}":
        return (None, "") if text is None else ({}, "")
    try:
        return json.loads(text), ""
    except UNREADABLE as error:
        return None, f"{type(error).__name__}: {error}"[:MOST_TEXT]


def read_numbers(text: str | None) -> tuple[dict[str, float] | None, str]:
    """``read_json`` for what must be numbers by name, or nothing."""
    value, problem = read_json(text)
    if value is None or problem:
        return None, problem
    if isinstance(value, dict) and all(isinstance(number, int | float) for number in value.values()):
        return value, ""
    return None, "it is not a number for each name"


class Payload(NamedTuple):
    """An envelope, without the value in it, which may be large."""

    present: bool = False
    # The key of the blob, its size and SHA-256.
    blob: str | None = None
    size: int | None = None
    sha256: str | None = None
    # The output of a mapped stage: it stands in the rows of the items.
    items: bool = False


NOTHING = Payload()


def read_payload(text: str | None) -> tuple[Payload, str]:
    """Return the envelope and what is wrong with it, or with the JSON in it; blobs stay where they are."""
    data, problem = read_json(text)
    if data is None:
        return Payload(present=text is not None and text != "null"), problem
    try:
        if data.get("items") is not None:
            return Payload(present=True, items=True), ""
        if data.get("blob") is not None:
            return Payload(True, str(data["blob"]), data["size"], data["sha256"]), ""
        json.loads(str(data["json"]))
    except UNREADABLE as error:
        problem = f"{type(error).__name__}: {error}"[:MOST_TEXT]
    return Payload(present=True), problem
