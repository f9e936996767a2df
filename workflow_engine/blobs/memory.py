"""Blobs in a dict, for tests."""

from __future__ import annotations

from workflow_engine.errors import BlobNotFound


class InMemoryBlobStore:
    """Keeps nothing when the process ends."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> str:
        self._blobs.setdefault(key, bytes(data))
        return key

    def get(self, key: str) -> bytes:
        try:
            return self._blobs[key]
        except KeyError:
            raise BlobNotFound(key) from None

    def has(self, key: str) -> bool:
        return key in self._blobs

    def delete(self, key: str) -> None:
        self._blobs.pop(key, None)

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self._blobs if key.startswith(prefix))
