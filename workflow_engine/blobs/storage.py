"""Blobs in one of Django's ``STORAGES``: files, S3, GCS, Azure, whatever the project has."""

from __future__ import annotations

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from workflow_engine.errors import BlobNotFound

Keys = list[str]


class StorageBlobStore:
    """Keys are made by the engine of ids and digests; content is written once and never changed."""

    def __init__(self, alias: str = "default", prefix: str = "workflow_engine/") -> None:
        self._alias, self._prefix = alias, prefix

    @property
    def _storage(self) -> Storage:
        return storages[self._alias]

    def put(self, key: str, data: bytes) -> str:
        # A storage that never overwrites answers with another name; that one is the key then.
        return self._storage.save(self._prefix + key, ContentFile(data)).removeprefix(self._prefix)

    def get(self, key: str) -> bytes:
        try:
            with self._storage.open(self._prefix + key, "rb") as file:
                return file.read()  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise BlobNotFound(key) from None

    def has(self, key: str) -> bool:
        return self._storage.exists(self._prefix + key)

    def delete(self, key: str) -> None:
        self._storage.delete(self._prefix + key)

    def list(self, prefix: str) -> Keys:
        folder = prefix.rpartition("/")[0]
        return sorted(key for key in self._walk(folder) if key.startswith(prefix))

    def _walk(self, folder: str) -> Keys:
        try:
            folders, files = self._storage.listdir(self._prefix + folder)
        except FileNotFoundError:
            return []
        path = f"{folder}/" if folder else ""
        return [path + name for name in files] + [key for name in folders for key in self._walk(path + name)]
