"""The tools behind a ``StageContext``: one desk per attempt."""

from __future__ import annotations

import hashlib
import inspect
import math
import mimetypes
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Never, TypeVar

from workflow_engine.definitions.desk import Level
from workflow_engine.definitions.results import AnnotationNote, ArtifactRef, Notes
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput, MissingStageOutput
from workflow_engine.kernel import points
from workflow_engine.kernel.commands.annotate import check_annotation
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact
from workflow_engine.statuses import DONE_STAGE, MemoKind

from .held import Held
from .memory import Memory, check_step, result_as_json
from .patience import patiently
from .recorder import Recorder
from .storage import ScopedStorage, attempt_root
from .waiting import Waiting

T = TypeVar("T")
# raise_if_cancelled asks the database at most this often.
CANCEL_CHECK_SECONDS = 0.5
MAX_NAME = 200


class Desk:
    """Implements ``StageDesk``. Every call raises ``RunCancelledError`` once the attempt is lost."""

    def __init__(self, ports: Ports, held: Held, recorder: Recorder, *, checks: bool = False) -> None:
        self._checks = checks
        self._ports, self._held, self._recorder = ports, held, recorder
        self._lock = threading.Lock()
        self._metrics: dict[str, float] = {}
        self._artifacts: dict[str, ArtifactRef] = {}
        self._annotations: list[AnnotationNote] = []
        self._outputs: dict[str, Any] = {}
        self._on_complete: list[Callable[[], Any]] = []
        self._memory = Memory(ports, held)
        self._asked_at = time.monotonic()

    @cached_property
    def _waiting(self) -> Waiting:
        return Waiting(self._ports, self._held.stage, self._memory)

    def recall_all(self) -> None:
        self._waiting.recall()

    def suspend(
        self, state: Any, poll_every: timedelta, max_wait: timedelta | None, first_poll_at: datetime | None
    ) -> Never:
        self._held.check()
        self._waiting.suspend(state, poll_every, max_wait, first_poll_at)

    def wait_for(self, wait: Wait[Any]) -> Any:
        self._held.check()
        return self._waiting.wait_for(wait)

    def sleep(self, name: str, until: timedelta | datetime) -> None:
        self._held.check()
        self._waiting.sleep(name, until)

    def notes(self) -> Notes:
        with self._lock:
            return Notes(
                dict(self._metrics),
                tuple(self._artifacts.values()),
                tuple(self._annotations),
                tuple(self._on_complete),
            )

    @property
    def storage(self) -> ScopedStorage:
        return ScopedStorage(self._ports.blobs, self._held)

    def log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        self._held.check()
        points.hit(points.EXEC_MID)
        self._recorder.log(self._held, level, message, fields)

    def progress(self, percent: float, message: str, details: Mapping[str, Any]) -> None:
        self._held.check()
        points.hit(points.EXEC_MID)
        number = float(percent)
        value = {
            "percent": min(100.0, max(0.0, number)) if math.isfinite(number) else 0.0,
            "message": scrub(str(message))[:500],
        }
        if details:
            value["details"] = redact(scrub(dict(details)))
        self._recorder.progress(self._held, value)

    def metric(self, name: str, value: float) -> None:
        self._held.check()
        if not _is_finite(value) or not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            problem = FieldError(str(name)[:MAX_NAME], f"a metric is a name and a finite number, got {value!r}"[:300])
            raise InvalidInput("a metric", [problem])
        with self._lock:
            self._metrics[scrub(name)] = value

    def annotate(self, key: str, value: Any, actor: str, idempotency_key: str | None, emit_event: bool) -> None:
        self._held.check()
        check_annotation(key, value, actor, idempotency_key)
        if value is None:
            return
        with self._lock:
            self._annotations.append(AnnotationNote(key, value, actor[:150], idempotency_key, emit_event))

    def artifact(self, name: str, data: Any, content_type: str | None) -> str:
        self._held.check()
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or scrub(name) != name:
            raise InvalidInput("an artifact", [FieldError("name", f"must be text of 1 to {MAX_NAME} characters")])
        content = _content(data)
        digest = hashlib.sha256(content).hexdigest()
        key = self._ports.blobs.put(f"{attempt_root(self._held.stage)}artifact-{digest}", content)
        points.hit(points.BLOB_PUT)
        kind = scrub(content_type or "") or mimetypes.guess_type(name)[0] or "application/octet-stream"
        with self._lock:
            self._artifacts[name] = ArtifactRef(name, key, kind[:100], len(content), digest)
        return key

    def output_of(self, stage_id: str) -> Any:
        self._held.check()
        if stage_id not in self._outputs:
            self._outputs[stage_id] = self._ask(lambda: self._load_output(stage_id))
        return self._outputs[stage_id]

    def _load_output(self, stage_id: str) -> Any:
        stage = self._held.stage
        workflow = self._ports.registry.get_workflow(stage.workflow_id)
        rows = StageRun.objects.using(self._ports.using).current().filter(run=stage.run_id, status__in=DONE_STAGE)
        row = rows.filter(stage=stage_id, group_number__lt=stage.group_number).only("output").first()
        if row is None or row.output is None:
            available = rows.filter(group_number__lt=stage.group_number).in_order()
            raise MissingStageOutput(stage_id, list(available.values_list("stage", flat=True)))
        source: Stage[Any, Any, Any] = workflow.get_stage(stage_id)
        return source.signature.output.read(Envelope(row.output).raw(self._ports.blobs))

    def recall(self, name: str) -> tuple[Any] | None:
        self._held.check()
        check_step(name)
        stage = self._body_of("once")
        if stage.atomic:
            raise InvalidDefinition(
                f"Stage {stage.id!r}: once({name!r}) has no use with atomic=True, where everything is kept or nothing. "
                "Call the function itself."
            )
        memo = self._memory.get(MemoKind.ONCE, name)
        return None if memo is None else (self._memory.value(memo),)

    def remember(self, name: str, value: Any, returns: Any) -> Any:
        written = result_as_json(name, value, returns)
        return self._memory.value(self._memory.keep(MemoKind.ONCE, name, written))

    def on_complete(self, function: Callable[[], Any]) -> None:
        self._held.check()
        stage = self._body_of("on_complete")
        if stage.isolation == "process":
            raise InvalidDefinition(
                f"Stage {stage.id!r}: on_complete does not go with isolation='process', since functions do not cross "
                "processes. Write it in a stage of its own that follows, with atomic=True."
            )
        check_effect(f"Stage {stage.id!r}", function)
        with self._lock:
            self._on_complete.append(function)

    def _body_of(self, tool: str) -> Stage[Any, Any, Any]:
        """Return the stage whose body this is. Raises ``InvalidDefinition`` in a completion check."""
        stage = self._held.stage
        if self._checks:
            raise InvalidDefinition(f"Stage {stage.stage_id!r}: {tool} belongs into the body, not into its check.")
        return self._ports.registry.get_workflow(stage.workflow_id).get_stage(stage.stage_id)

    def _ask(self, ask: Callable[[], T]) -> T:
        return patiently(self._ports, self._held, ask)

    def subject(self) -> Any:
        return self._ask(self._load_subject)

    def _load_subject(self) -> Any:
        run = WorkflowRun.objects.using(self._ports.using).filter(pk=self._held.stage.run_id).first()
        return run.subject if run is not None else None

    def now(self) -> datetime:
        return self._ports.clock.now()

    def raise_if_cancelled(self) -> None:
        self._held.check()
        if time.monotonic() - self._asked_at < CANCEL_CHECK_SECONDS:
            return
        self._asked_at = time.monotonic()
        stage = self._held.stage
        # A body runs, a check is made of what is suspended: whoever holds the token goes on.
        rows = StageRun.objects.using(self._ports.using).held().filter(pk=stage.stage_run_id, token=stage.token)
        if not self._ask(rows.exists):
            self._held.lost.set()
            self._held.check()


def check_effect(where: str, function: Any) -> None:
    """Raises ``InvalidDefinition`` unless ``function`` can be called inside a transaction."""
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise InvalidDefinition(f"{where}: on_complete takes a plain function without arguments, got {function!r}.")


def _is_finite(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _content(data: Any) -> bytes:
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if hasattr(data, "read"):
        content = data.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    problem = FieldError("data", f"must be bytes, str or an open file, got {type(data).__name__}")
    raise InvalidInput("an artifact", [problem])
