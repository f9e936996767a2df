"""Blobs in a dict, for tests."""

from __future__ import annotations

from workflow_engine.errors import BlobNotFound

Keys = list[str]


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

    def delete_folder(self, folder: str) -> int:
        found = self.list(f"{folder}/")
        for key in found:
            self.delete(key)
        return len(found)

    def list(self, prefix: str) -> Keys:
        return sorted(key for key in self._blobs if key.startswith(prefix))

    def folders(self, folder: str) -> Keys:
        below = (key.removeprefix(f"{folder}/").split("/") for key in self._blobs if key.startswith(f"{folder}/"))
        return sorted({parts[0] for parts in below if len(parts) > 1})
