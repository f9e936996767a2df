"""Blobs in one of Django's ``STORAGES``: files, S3, GCS, Azure, whatever the project has."""

from __future__ import annotations

from contextlib import suppress

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages

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

    def delete_folder(self, folder: str) -> int:
        storage, path = self._storage, self._prefix + folder
        folders, files = self._listdir(folder)
        for name in files:
            storage.delete(f"{path}/{name}")
        deleted = len(files) + sum(self.delete_folder(f"{folder}/{name}") for name in folders)
        if isinstance(storage, FileSystemStorage):
            # Somebody may be writing into it just now: then it is not empty, and stays.
            with suppress(OSError):
                storage.delete(path)
        return deleted

    def folders(self, folder: str) -> Keys:
        return self._listdir(folder)[0]

    def _walk(self, folder: str) -> Keys:
        folders, files = self._listdir(folder)
        path = f"{folder}/" if folder else ""
        return [path + name for name in files] + [key for name in folders for key in self._walk(path + name)]

    def _listdir(self, folder: str) -> tuple[Keys, Keys]:
        try:
            return self._storage.listdir(self._prefix + folder)
        except FileNotFoundError:
            return [], []
