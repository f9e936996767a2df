"""Whether the blobs that a run refers to are there: asks the blob store, once per reference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from workflow_engine.errors import BlobNotFound
from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import Record
from workflow_engine.kernel.ports import BlobStore


def missing_blobs(record: Record, blobs: BlobStore) -> Iterator[Finding]:
    for blob in record.blobs:
        try:
            content = blobs.get(blob.key)
        except BlobNotFound:
            text = f"The blob {blob.key!r} ({blob.what}) is not in the store."
            yield violation("blob.missing", record, blob.stage, text=text)
            continue
        if len(content) != blob.size or hashlib.sha256(content).hexdigest() != blob.sha256:
            text = f"The blob {blob.key!r} ({blob.what}) has {len(content):,} bytes, and not those that its row says."
            yield violation("blob.corrupt", record, blob.stage, text=text)
