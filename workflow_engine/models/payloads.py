"""Envelopes: how a JSON value stands in a column, inline or as a reference to a blob."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from workflow_engine.conf import get_setting
from workflow_engine.errors import BlobCorrupt


class BlobReader(Protocol):
    def get(self, key: str) -> bytes: ...


_reader: list[BlobReader] = []


def read_blobs_with(store: BlobReader) -> None:
    """Tell the models where blobs are; ``bootstrap`` does it."""
    _reader[:] = [store]


@dataclass(frozen=True, slots=True)
class Envelope:
    """``{"json": text}`` or ``{"blob": key, "size": bytes, "sha256": hex}``; None: there is no value.

    The output of a mapped stage is ``{"items": reference}``: its value is made of the items' rows when it is asked for.

    The value is kept as text: PostgreSQL's ``jsonb`` would sort its keys and turn 1e22 into a whole number, MariaDB
    refuses more than 32 levels. The envelope also makes ``null`` a value like any other.
    """

    data: dict[str, Any] | None

    def __bool__(self) -> bool:
        return self.data is not None

    @property
    def blob_key(self) -> str | None:
        return self.data.get("blob") if self.data else None

    @property
    def size(self) -> int | None:
        """Bytes of the blob; None for inline values."""
        return self.data.get("size") if self.data else None

    @property
    def items(self) -> dict[str, Any] | None:
        """Where the results of a mapped stage are: see ``models.maps``."""
        return self.data.get("items") if self.data else None

    def raw(self, blobs: BlobReader | None = None, *, using: str | None = None) -> bytes:
        """Return the JSON text. Raises ``BlobNotFound`` or ``BlobCorrupt``."""
        if self.data is None:
            raise LookupError("there is no value")
        if self.items is not None:
            from .maps import items_json

            return b"[%s]" % b",".join(items_json(self.items, using or get_setting("DATABASE"), blobs))
        if self.blob_key is None:
            return str(self.data["json"]).encode()
        content = (blobs or _reader[0]).get(self.blob_key)
        if len(content) != self.data["size"] or hashlib.sha256(content).hexdigest() != self.data["sha256"]:
            raise BlobCorrupt(
                f"Blob {self.blob_key!r} has {len(content):,} bytes that do not match the recorded size "
                f"({self.data['size']:,}) and SHA-256."
            )
        return content

    def open(self, blobs: BlobReader | None = None, *, using: str | None = None) -> Any:
        """Return the value, or None if there is none. Raises ``BlobNotFound`` or ``BlobCorrupt``."""
        if self.data is None:
            return None
        return json.loads(self.raw(blobs, using=using))


def inline(value: Any) -> dict[str, Any]:
    """Return the envelope that keeps a JSON value in the row."""
    return {"json": json.dumps(value, separators=(",", ":"), ensure_ascii=False)}
