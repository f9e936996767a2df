"""``ctx.storage``: JSON and bytes of one run, stage and generation."""

from __future__ import annotations

import json
import re
from typing import Any

from asgiref.sync import sync_to_async

from workflow_engine.definitions.desk import Keys
from workflow_engine.errors import BlobNotFound, InvalidPayload, shown
from workflow_engine.kernel.payloads import check_json, scrub
from workflow_engine.kernel.ports import BlobStore
from workflow_engine.kernel.started import StartedStage

from .held import Held

Versions = list[tuple[int, int, str]]
_JSON, _BYTES = ".json", ".bin"
MAX_KEY = 200
# key.token.version.json; a storage that never overwrites may have put something before the suffix.
_STORED = re.compile(r"(?P<key>.+)\.(?P<token>\d{10})\.(?P<version>\d{6})[^/]*\Z", re.DOTALL)


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
        before = self._versions(path)
        # First the new value, then the old ones away: a death in between loses neither.
        newest = max((version for _, version, _ in before), default=0) + 1
        self._blobs.put(f"{path}.{self._held.stage.token:010}.{newest:06}{suffix}", data)
        for _, _, old in before:
            self._blobs.delete(old)

    def load(self, key: str) -> Any:
        """Return what was saved. Raises ``BlobNotFound``."""
        versions = self._versions(self._path(key))
        if not versions:
            raise BlobNotFound(key)
        stored = versions[-1][2]
        data = self._blobs.get(stored)
        return data if _BYTES in stored.rpartition("/")[2] else json.loads(data)

    def exists(self, key: str) -> bool:
        return bool(self._versions(self._path(key)))

    def delete(self, key: str) -> None:
        self._held.check()
        for _, _, stored in self._versions(self._path(key)):
            self._blobs.delete(stored)

    def list(self, prefix: str = "") -> Keys:
        found = (_STORED.match(stored.removeprefix(self._root)) for stored in self._blobs.list(self._root + prefix))
        token = self._held.stage.token
        return sorted({match["key"] for match in found if match and int(match["token"]) <= token})

    def _versions(self, path: str) -> Versions:
        """Return (token, version, blob key) of what this attempt may see, oldest first.

        The token in the name keeps attempts apart: what a late one still writes is older than what a newer one has
        written, and is not found by it.
        """
        found = []
        for stored in self._blobs.list(path + "."):
            match = _STORED.match(stored.removeprefix(self._root))
            if match and self._root + match["key"] == path and int(match["token"]) <= self._held.stage.token:
                found.append((int(match["token"]), int(match["version"]), stored))
        return sorted(found)

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
        if bad or len(key) > MAX_KEY or scrub(key) != key:
            raise InvalidPayload("storage key", f"{shown(key)} must be a path such as 'pages/1', without '..' or '\\'")
        return self._root + key


def storage_root(stage: StartedStage) -> str:
    item = "" if stage.map_index < 0 else f"{stage.map_index}/"
    return f"runs/{stage.run_id}/{stage.stage_id}/{item}{stage.generation}.storage/"


def attempt_root(stage: StartedStage) -> str:
    """Where one attempt puts blobs: the token is in it, so a late attempt can never overwrite a newer one."""
    item = "" if stage.map_index < 0 else f"{stage.map_index}/"
    return f"runs/{stage.run_id}/{stage.stage_id}/{item}{stage.generation}.{stage.token}/"
