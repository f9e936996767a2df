"""The tools behind a ``StageContext``: one desk per attempt."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import mimetypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, Never, TypeVar

from workflow_engine.definitions.desk import Level
from workflow_engine.definitions.items import ItemError, Items, Page
from workflow_engine.definitions.results import AnnotationNote, ArtifactRef, Notes
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.types import DataType
from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput, MissingStageOutput, as_text, shown
from workflow_engine.kernel import points
from workflow_engine.kernel.commands.annotate import check_annotation
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.maps import PAGE, ItemResult, read_inputs, read_page
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact
from workflow_engine.statuses import DONE_STAGE, MemoKind, StageStatus

from .child_runs import ChildRuns
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

    @cached_property
    def _children(self) -> ChildRuns:
        return ChildRuns(self._ports, self._held, self._memory)

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

    def run_child(
        self,
        workflow: Any,
        input: Any,
        name: str | None,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Any:
        self._held.check()
        self._body_of("run_child")
        return self._children.run(workflow, input, name=name, config=config, metadata=metadata)

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
        number = _number(percent)
        value = {
            "percent": min(100.0, max(0.0, number)) if math.isfinite(number) else 0.0,
            "message": scrub(as_text(message))[:500],
        }
        if details:
            value["details"] = redact(scrub(dict(details)))
        self._recorder.progress(self._held, value)

    def metric(self, name: str, value: float) -> None:
        self._held.check()
        if not _is_finite(value) or not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            problem = FieldError(
                name[:MAX_NAME] if isinstance(name, str) else shown(name),
                f"a metric is a name and a finite number, got {shown(value)}",
            )
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
        if content_type is not None and not isinstance(content_type, str):
            raise InvalidInput("an artifact", [FieldError("content_type", f"must be text, got {shown(content_type)}")])
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
        workflow = self._ports.registry.get_workflow(self._held.stage.workflow_id)
        envelope = self._envelope_of(stage_id)
        source = workflow.output_type(stage_id)
        return source.read(Envelope(envelope).raw(self._ports.blobs, using=self._ports.using))

    def _envelope_of(self, stage_id: str) -> dict[str, Any]:
        """Return the envelope of an earlier stage's output. Raises ``MissingStageOutput`` naming those there are."""
        stage = self._held.stage
        rows = StageRun.objects.using(self._ports.using).current().stages().filter(run=stage.run_id)
        rows = rows.filter(status__in=DONE_STAGE, group_number__lt=stage.group_number)
        row = rows.filter(stage=stage_id).only("output").first()
        if row is None or row.output is None:
            raise MissingStageOutput(stage_id, list(rows.in_order().values_list("stage", flat=True)))
        found: dict[str, Any] = row.output
        return found

    def items_of(self, stage_id: str) -> Items[Any]:
        self._held.check()
        reference = self._ask(lambda: Envelope(self._envelope_of(stage_id)).items)
        if reference is None:
            raise InvalidDefinition(f"Stage {stage_id!r} was not mapped: read its output with ctx.require().")
        workflow = self._ports.registry.get_workflow(self._held.stage.workflow_id)
        signature = workflow.get_stage(stage_id).signature
        return Items(
            reference["count"],
            reference["failed"],
            reference["on_item_error"],
            lambda: self._item_pages(reference, signature.output),
            lambda indexes: self._item_inputs(reference, signature.input, indexes),
        )

    def _item_inputs(self, reference: Mapping[str, Any], kind: DataType, indexes: Sequence[int]) -> dict[int, Any]:
        envelopes = self._ask(partial(read_inputs, reference, self._ports.using, indexes))
        raw = {index: Envelope(envelope).raw(self._ports.blobs) for index, envelope in envelopes.items()}
        # A stage that takes no input gets none, and its items are JSON.
        return {index: json.loads(one) if kind.type is None else kind.read(one) for index, one in raw.items()}

    def _item_pages(self, reference: Mapping[str, Any], kind: DataType) -> Iterator[Page[Any]]:
        for start in range(0, reference["count"], PAGE):
            page = self._ask(partial(read_page, reference, self._ports.using, start))
            yield [(one.index, partial(self._read_item, one, kind), _item_error(one)) for one in page]

    def _read_item(self, one: ItemResult, kind: DataType) -> Any:
        self._held.check()
        return kind.read(Envelope(one.output).raw(self._ports.blobs))

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
        points.hit(points.EXEC_MID)
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


def _item_error(one: ItemResult) -> ItemError | None:
    return None if one.status == StageStatus.COMPLETED else ItemError.model_validate(one.as_error())


def check_effect(where: str, function: Any) -> None:
    """Raises ``InvalidDefinition`` unless ``function`` can be called inside a transaction."""
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise InvalidDefinition(f"{where}: on_complete takes a plain function without arguments, got {function!r}.")


def _number(percent: Any) -> float:
    try:
        return float(percent)
    except (TypeError, ValueError, OverflowError):
        problem = FieldError("percent", f"must be a number from 0 to 100, got {shown(percent)}")
        raise InvalidInput("progress", [problem]) from None


def _is_finite(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _content(data: Any) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError:
            problem = FieldError("data", "text with half of a surrogate pair, which is not valid Unicode")
            raise InvalidInput("an artifact", [problem]) from None
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if hasattr(data, "read"):
        content = data.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    problem = FieldError("data", f"must be bytes, str or an open file, got {type(data).__name__}")
    raise InvalidInput("an artifact", [problem])
