"""What a stage run remembers between its attempts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import connections

from workflow_engine.definitions.types import DataType
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput, InvalidPayload, StaleLease, shown
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands.remember import Remember
from workflow_engine.kernel.payloads import ValueMismatch, pack, scrub, write
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageMemo
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import MemoKind

from .held import Held
from .patience import patiently
from .storage import attempt_root

MAX_NAME = 100


class Memory:
    """The memos of one attempt's stage run: read by one query when first asked for. Thread-safe."""

    def __init__(self, ports: Ports, held: Held) -> None:
        self._ports, self._held = ports, held
        self._lock = threading.Lock()
        self._memos: dict[tuple[str, str], StageMemo] | None = None

    def get(self, kind: MemoKind, name: str) -> StageMemo | None:
        """Return what is known under a name, None if nothing is."""
        return self.read().get((kind, name))

    def read(self) -> Mapping[tuple[str, str], StageMemo]:
        """Return all memos by kind and name."""
        with self._lock:
            if self._memos is None:
                rows = StageMemo.objects.using(self._ports.using)
                ask = partial(rows.of, self._held.stage.stage_run_id)
                self._memos = dict(patiently(self._ports, self._held, ask))
            return self._memos

    def value(self, memo: StageMemo) -> Any:
        """Return a memo's value as JSON. Raises ``BlobNotFound``, ``BlobCorrupt``."""
        return Envelope(memo.value).open(self._ports.blobs)

    def keep(self, kind: MemoKind, name: str, value: Any) -> StageMemo:
        """Store JSON under a name, and return what is known there now: the first value counts.

        Raises:
            InvalidPayload, PayloadTooLarge: nothing was written.
            RunCancelledError: the attempt was lost.
        """
        self._held.check()
        ports, stage = self._ports, self._held.stage
        start, what = f"{attempt_root(stage)}{kind}-", f"{kind} {name!r}"
        envelope = pack(value, lambda digest: f"{start}{digest}.json", ports.blobs, ports.limits, what)
        try:
            command = Remember(stage=stage, kind=kind, name=name, value=envelope)
            memo = patiently(ports, self._held, lambda: Kernel(ports).dispatch(command)).memo
        except StaleLease:
            self._held.lost.set()
            self._held.check()
            raise
        with self._lock:
            if connections[ports.using].in_atomic_block:
                # A transaction of the body's own: whether it commits is seen at the next look.
                self._memos = None
            elif self._memos is not None:
                self._memos[kind, name] = memo
        return memo


def check_step(name: Any) -> None:
    """Refuse a sub-step before it is done, if its result could not be kept.

    Raises:
        InvalidInput: ``name`` cannot name a memo.
        InvalidDefinition: a plain call on an event loop, which must not wait for the database.
    """
    check_name(name, "a sub-step")
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise InvalidDefinition(f"once({name!r}) was called in an async body. Write: await ctx.aonce({name!r}, ...).")


def check_name(name: Any, subject: str) -> None:
    """Raises ``InvalidInput`` for what cannot be the name of a sleep or a sub-step."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or scrub(name) != name:
        problem = FieldError("name", f"must be text of 1 to {MAX_NAME} characters, got {shown(name)}"[:200])
        raise InvalidInput(subject, [problem])


def result_as_json(name: str, value: Any, returns: Any) -> Any:
    """Return a sub-step's result as the JSON that is stored for it. Raises ``InvalidPayload``."""
    what = f"once {name!r}"
    try:
        return write(DataType(Any if returns is None else returns, what), value)
    except ValueMismatch as error:
        raise InvalidPayload(what, str(error)) from error
