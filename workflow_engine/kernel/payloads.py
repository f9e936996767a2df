"""The one gate for stored JSON, and where a value goes: into the row, or into the blob store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from workflow_engine.definitions.types import DataType
from workflow_engine.errors import FieldError, InvalidPayload, PayloadTooLarge, as_text, field_errors, shown

from . import points
from .ports import BlobStore, Limits

MAX_DEPTH = 64
# MariaDB's JSON_VALID stops at 32 levels; what is stored as JSON itself stays well below.
MAX_COLUMN_DEPTH = 28
MAX_INT_BITS = 3322  # 1,000 decimal digits


def check_json(value: Any, max_depth: int = MAX_DEPTH) -> None:
    """Raise ``InvalidPayload`` naming the field that cannot be stored as JSON and read back."""
    for path, item, depth in _walk(value, max_depth):
        if problem := _problem(item, depth, max_depth):
            raise InvalidPayload(path, problem)


def check_column(value: Any) -> None:
    """``check_json`` for a value that is stored in a JSON column itself, such as metadata and config."""
    check_json(value, MAX_COLUMN_DEPTH)


def _walk(value: Any, max_depth: int) -> Iterator[tuple[str, Any, int]]:
    stack: list[tuple[str, Any, int]] = [("", value, 1)]
    while stack:
        path, item, depth = stack.pop()
        yield path, item, depth
        if depth > max_depth:
            continue
        if isinstance(item, dict):
            for key, inner in item.items():
                yield (f"{path}.{_shown(key)}" if path else _shown(key)), _Key(key), depth
                stack.append((f"{path}.{key}" if path else str(key), inner, depth + 1))
        elif isinstance(item, list | tuple):
            stack += [(f"{path}.{index}" if path else str(index), inner, depth + 1) for index, inner in enumerate(item)]


class _Key:
    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key


def _shown(key: Any) -> str:
    return ascii(key if isinstance(key, str) else shown(key))[:60].strip("'")


def _problem(item: Any, depth: int, max_depth: int = MAX_DEPTH) -> str | None:
    if isinstance(item, _Key):
        return text_problem(item.key) if isinstance(item.key, str) else f"a key must be text, got {shown(item.key)}"
    if isinstance(item, str):
        return text_problem(item)
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int):
        return "a whole number of more than 1,000 digits" if item.bit_length() > MAX_INT_BITS else None
    if isinstance(item, float):
        return None if math.isfinite(item) else f"{item!r} is not a JSON number"
    if isinstance(item, dict | list | tuple):
        return f"nested deeper than {max_depth} levels" if depth > max_depth else None
    return f"{type(item).__name__} is not JSON"


def text_problem(text: str) -> str | None:
    """Return why no database keeps this text, None if all do."""
    if "\x00" in text:
        return "text with a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "text with half of a surrogate pair, which is not valid Unicode"
    return None


def pack(value: Any, key: Callable[[str], str], blobs: BlobStore, limits: Limits, what: str) -> dict[str, Any]:
    """Return the envelope of a JSON value, having put a large one into the blob store.

    Args:
        key: makes the blob's key of the content's SHA-256.
        what: names the value in errors.

    Raises:
        InvalidPayload, PayloadTooLarge: it cannot be stored; nothing was written.
    """
    check_json(value)
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    if len(content) > limits.max_payload_bytes:
        raise PayloadTooLarge(what, len(content), limits.max_payload_bytes)
    if len(content) <= limits.inline_payload_bytes:
        return {"json": content.decode()}
    digest = hashlib.sha256(content).hexdigest()
    stored = blobs.put(key(digest), content)
    points.hit(points.BLOB_PUT)
    return {"blob": stored, "size": len(content), "sha256": digest}


def write(data: DataType, value: Any) -> Any:
    """Return ``value`` as the JSON that is stored for it, checked to be what the type reads back.

    Raises:
        ValueMismatch: with every field that is wrong; values are never repeated in it.
    """
    try:
        written = data.write(value)
        check_json(written)
        data.read(json.dumps(written))
    except ValidationError as error:
        raise ValueMismatch(field_errors(error)) from error
    except InvalidPayload as error:
        raise ValueMismatch([FieldError(error.path, error.problem, "not_storable")]) from error
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise ValueMismatch([FieldError("", f"cannot be written as JSON ({error})"[:500])]) from error
    return written


class ValueMismatch(Exception):
    """A value does not fit its type."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors
        super().__init__("; ".join(map(str, errors)))


def scrub(value: Any, depth: int = 1) -> Any:
    """Return ``value`` as JSON that every database stores: what cannot be is replaced and marked. For log lines."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if _problem(value, depth) is None else shown(value, 100)
    if depth >= MAX_COLUMN_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {scrub(as_text(key), depth): scrub(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub(inner, depth + 1) for inner in value]
    return scrub(as_text(value), depth)
