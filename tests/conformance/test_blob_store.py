"""One suite for the BlobStore port, over every adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.blobs.storage import StorageBlobStore
from workflow_engine.errors import BlobNotFound
from workflow_engine.kernel.ports import BlobStore

FILES = "django.core.files.storage.FileSystemStorage"
MEMORY = "django.core.files.storage.InMemoryStorage"


@pytest.fixture(params=["memory", "files", "django-memory"])
def store(request: Any, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "memory":
        yield InMemoryBlobStore()
        return
    backend = {"BACKEND": FILES, "OPTIONS": {"location": tmp_path}} if request.param == "files" else {"BACKEND": MEMORY}
    with override_settings(STORAGES={"blobs": backend}):
        yield StorageBlobStore("blobs")


def test_what_was_put_is_got_back_byte_for_byte(store: BlobStore) -> None:
    data = bytes(range(256)) * 1000

    key = store.put("runs/1/stage/0.1/output.json", data)

    assert store.get(key) == data
    assert store.has(key)


def test_a_missing_key_is_a_typed_error_naming_it(store: BlobStore) -> None:
    with pytest.raises(BlobNotFound, match="runs/none"):
        store.get("runs/none")

    assert not store.has("runs/none")


def test_a_second_put_never_changes_what_the_first_key_holds(store: BlobStore) -> None:
    first = store.put("runs/1/a", b"first")
    second = store.put("runs/1/a", b"first")

    assert store.get(first) == store.get(second) == b"first"


def test_deleting_twice_is_fine(store: BlobStore) -> None:
    key = store.put("runs/1/a", b"x")

    store.delete(key)
    store.delete(key)

    assert not store.has(key)


def test_listing_finds_every_key_under_a_prefix_and_no_other(store: BlobStore) -> None:
    keys = [store.put(name, b"x") for name in ("runs/1/a", "runs/1/b/c", "runs/1/ab", "runs/2/a", "other")]

    assert store.list("runs/1/") == sorted(keys[:3])
    assert store.list("runs/1/a") == sorted([keys[0], keys[2]])
    assert store.list("nothing/") == []


def test_a_folder_is_deleted_with_all_that_is_in_it_and_no_other(store: BlobStore) -> None:
    for key in ("runs/1/a", "runs/1/b/c", "runs/1/b/d/e", "runs/10/a", "runs/2"):
        store.put(key, b"x")

    assert store.delete_folder("runs/1") == 3
    assert store.delete_folder("runs/1") == store.delete_folder("runs/none") == 0

    assert store.list("") == ["runs/10/a", "runs/2"]


def test_folders_are_named_without_what_is_in_them(store: BlobStore) -> None:
    for key in ("runs/1/a", "runs/1/b/c", "runs/2/a", "runs/file", "other/3/a"):
        store.put(key, b"x")

    assert sorted(store.folders("runs")) == ["1", "2"]
    assert store.folders("none") == []
