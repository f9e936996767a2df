"""Whether what is read back is what was written."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import to_jsonable_python


def as_json(value: Any) -> Any:
    """Return the JSON that pydantic makes of a value, or the value if it makes none."""
    try:
        return to_jsonable_python(value)
    except Exception:
        return value


def same(written: Any, found: Any) -> bool:
    """Return whether two pieces of JSON are equal.

    ``true`` is not 1. PostgreSQL keeps no sign of zero, and writes a large float out as a whole number: floats are
    compared as floats.
    """
    if isinstance(written, bool) or isinstance(found, bool):
        return written is found
    if isinstance(written, dict) and isinstance(found, dict):
        return written.keys() == found.keys() and all(same(written[key], found[key]) for key in written)
    if isinstance(written, list | tuple) and isinstance(found, list | tuple):
        return len(written) == len(found) and all(map(same, written, found))
    if isinstance(written, float) and isinstance(found, int | float):
        return math.isfinite(written) and written == float(found)
    return type(written) is type(found) and bool(written == found)
