"""``ctx.storage``: JSON and bytes of one run, stage and generation."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import sync_to_async

from workflow_engine.definitions.context import Keys
from workflow_engine.errors import InvalidPayload
from workflow_engine.kernel.payloads import check_json
from workflow_engine.kernel.ports import BlobStore
from workflow_engine.kernel.started import StartedStage

from .held import Held

_JSON, _BYTES = ".json", ".bin"
MAX_KEY = 200


class ScopedStorage:
    """Keys live under the run, stage and generation, so runs and reruns never see each other's."""

    def __init__(self, blobs: BlobStore, held: Held) -> None:
        self._blobs, self._held = blobs, held
        self._root = storage_root(held.stage)

    def save(self, key: str, value: Any) -> None:
        """Store JSON, or bytes as they are. Raises ``InvalidPayload`` for a bad key or value."""
        self._held.check()
        path = self._path(key)
        if isinstance(value, bytes):
            suffix, data = _BYTES, value
        else:
            check_json(value)
            suffix, data = _JSON, json.dumps(value).encode()
        self.delete(key)
        self._blobs.put(path + suffix, data)

    def load(self, key: str) -> Any:
        """Return what was saved. Raises ``BlobNotFound``."""
        path = self._path(key)
        if self._blobs.has(path + _BYTES):
            return self._blobs.get(path + _BYTES)
        return json.loads(self._blobs.get(path + _JSON))

    def exists(self, key: str) -> bool:
        path = self._path(key)
        return self._blobs.has(path + _JSON) or self._blobs.has(path + _BYTES)

    def delete(self, key: str) -> None:
        self._held.check()
        for suffix in (_JSON, _BYTES):
            if self._blobs.has(self._path(key) + suffix):
                self._blobs.delete(self._path(key) + suffix)

    def list(self, prefix: str = "") -> Keys:
        found = self._blobs.list(self._root + prefix)
        return sorted(key.removeprefix(self._root).rpartition(".")[0] for key in found)

    async def asave(self, key: str, value: Any) -> None:
        await sync_to_async(self.save, thread_sensitive=False)(key, value)

    async def aload(self, key: str) -> Any:
        return await sync_to_async(self.load, thread_sensitive=False)(key)

    async def aexists(self, key: str) -> bool:
        return await sync_to_async(self.exists, thread_sensitive=False)(key)

    async def adelete(self, key: str) -> None:
        await sync_to_async(self.delete, thread_sensitive=False)(key)

    async def alist(self, prefix: str = "") -> Keys:
        return await sync_to_async(self.list, thread_sensitive=False)(prefix)

    def _path(self, key: str) -> str:
        parts = key.split("/") if isinstance(key, str) else []
        bad = not parts or any(part in ("", ".", "..") or "\x00" in part or "\\" in part for part in parts)
        if bad or len(key) > MAX_KEY:
            raise InvalidPayload("storage key", f"{key!r} must be a path such as 'pages/1', without '..' or '\\'")
        return self._root + key


def storage_root(stage: StartedStage) -> str:
    item = "" if stage.map_index < 0 else f"{stage.map_index}/"
    return f"runs/{stage.run_id}/{stage.stage_id}/{item}{stage.generation}.storage/"


def attempt_root(stage: StartedStage) -> str:
    """Where one attempt puts blobs: the token is in it, so a late attempt can never overwrite a newer one."""
    item = "" if stage.map_index < 0 else f"{stage.map_index}/"
    return f"runs/{stage.run_id}/{stage.stage_id}/{item}{stage.generation}.{stage.token}/"
