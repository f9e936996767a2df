"""``stage_context``: what one body needs to be called like a plain function."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Never, cast

from pydantic import TypeAdapter

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.definitions.context import Cfg, In, StageContext
from workflow_engine.definitions.desk import Level, StageFacts, StageStorage
from workflow_engine.definitions.items import ItemError, Items
from workflow_engine.definitions.results import StageSuspended, Suspension
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import MissingStageOutput
from workflow_engine.executors.desk import check_effect
from workflow_engine.executors.held import Held
from workflow_engine.executors.memory import check_step, result_as_json
from workflow_engine.executors.storage import ScopedStorage
from workflow_engine.kernel.started import InputReference, StartedStage
from workflow_engine.models.payloads import inline

from .clock import FakeClock


@dataclass
class TestDesk:
    """Keeps what the body does, to be looked at: ``context.desk.logs`` and so on."""

    __test__ = False
    outputs: Mapping[str, Any]
    held: Held
    subject_row: Any = None
    clock: FakeClock = field(default_factory=FakeClock)
    logs: list[tuple[Level, str, dict[str, Any]]] = field(default_factory=list)
    progressed: list[tuple[float, str]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    # Results of ``once`` as JSON text, by name.
    memos: dict[str, str] = field(default_factory=dict)
    effects: list[Callable[[], Any]] = field(default_factory=list)
    blobs: InMemoryBlobStore = field(default_factory=InMemoryBlobStore)
    # Name of a wait -> its answer; names of sleeps that count as over, and of those that the body has asked for.
    answers: Mapping[str, Any] = field(default_factory=dict)
    slept: list[str] = field(default_factory=list)
    # Name of a child run -> its output, or the error to raise.
    children: Mapping[str, Any] = field(default_factory=dict)
    # Mapped stage -> what its items were.
    item_inputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        self.held.check()
        self.logs.append((level, message, dict(fields)))

    def progress(self, percent: float, message: str, details: Mapping[str, Any]) -> None:
        self.held.check()
        self.progressed.append((percent, message))

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def annotate(self, key: str, value: Any, actor: str, idempotency_key: str | None, emit_event: bool) -> None:
        if value is not None:
            self.annotations[key] = value

    def artifact(self, name: str, data: Any, content_type: str | None) -> str:
        self.artifacts[name] = data.read() if hasattr(data, "read") else data
        return name

    def output_of(self, stage_id: str) -> Any:
        if stage_id not in self.outputs:
            raise MissingStageOutput(stage_id, sorted(self.outputs))
        return self.outputs[stage_id]

    def items_of(self, stage_id: str) -> Items[Any]:
        """Return what was given as the output of a mapped stage: a list, with an ``ItemError`` for each failed item."""
        values = list(self.output_of(stage_id))
        errors = [value if isinstance(value, ItemError) else None for value in values]
        page = [(index, lambda value=value: value, errors[index]) for index, value in enumerate(values)]
        failed = len(values) - errors.count(None)
        inputs = self.item_inputs.get(stage_id, ())
        known = dict(enumerate(inputs))
        return Items(len(values), failed, "collect", lambda: iter([page]), lambda indexes: known)

    def run_child(
        self,
        workflow: Any,
        input: Any,
        name: str | None,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Any:
        called = name or (workflow if isinstance(workflow, str) else workflow.id)
        if called not in self.children:
            raise StageSuspended(Suspension("child", called))
        if isinstance(self.children[called], Exception):
            raise self.children[called]
        return self.children[called]

    def recall(self, name: str) -> tuple[Any] | None:
        self.held.check()
        check_step(name)
        return (json.loads(self.memos[name]),) if name in self.memos else None

    def remember(self, name: str, value: Any, returns: Any) -> Any:
        self.memos[name] = json.dumps(result_as_json(name, value, returns))
        return json.loads(self.memos[name])

    def on_complete(self, function: Callable[[], Any]) -> None:
        self.held.check()
        check_effect(f"Stage {self.held.stage.stage_id!r}", function)
        self.effects.append(function)

    def complete(self) -> None:
        """Call what the body gave to ``on_complete``, in order, as the engine does when the stage completes."""
        for function in self.effects:
            function()

    def subject(self) -> Any:
        return self.subject_row

    def now(self) -> datetime:
        return self.clock.now()

    def raise_if_cancelled(self) -> None:
        self.held.check()

    def suspend(
        self, state: Any, poll_every: timedelta, max_wait: timedelta | None, first_poll_at: datetime | None
    ) -> Never:
        data = TypeAdapter(Any).dump_python(state, mode="json")
        raise StageSuspended(Suspension("poll", state=inline(data), max_wait=max_wait, poll_every=poll_every))

    def wait_for(self, wait: Wait[Any]) -> Any:
        if wait.name not in self.answers:
            raise StageSuspended(Suspension("answer", wait.name, max_wait=wait.max_wait))
        return wait.data.read(json.dumps(wait.data.write(self.answers[wait.name])))

    def sleep(self, name: str, until: timedelta | datetime) -> None:
        """Every sleep counts as over."""
        self.slept.append(name)

    def cancel(self) -> None:
        """Let every further call of the body raise ``RunCancelledError``."""
        self.held.lost.set()

    @property
    def storage(self) -> StageStorage:
        return ScopedStorage(self.blobs, self.held)


class TestContext(StageContext[In, Cfg]):
    """A ``StageContext`` whose ``desk`` shows what the body did with it."""

    __test__ = False
    desk: TestDesk


def stage_context(
    stage: Stage[In, Cfg, Any],
    input: Any = None,
    *,
    config: Mapping[str, Any] | Any = None,
    outputs: Mapping[Stage[Any, Any, Any] | str, Any] | None = None,
    subject: Any = None,
    answers: Mapping[str, Any] | None = None,
    children: Mapping[str, Any] | None = None,
    item_inputs: Mapping[Stage[Any, Any, Any] | str, Sequence[Any]] | None = None,
    attempt: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> TestContext[In, Cfg]:
    """Return a context to call ``stage(context)`` with.

    Args:
        input: a value of the input type, or what pydantic makes one of.
        config: fields over the defaults, or a config object.
        outputs: stage (or id) -> what ``ctx.require`` returns.
        answers: name of a wait -> what ``ctx.wait_for`` returns; without one it raises ``StageSuspended``, as
            ``ctx.suspend`` does. Sleeps are over at once.
        children: name of a child run -> what ``ctx.run_child`` returns, or an error for it to raise.
        item_inputs: mapped stage (or id) -> what its items were, for ``ctx.items(stage).failures()``.

    Raises:
        pydantic's ``ValidationError``: input or config do not fit.
    """
    signature = stage.signature
    value = signature.input.adapter.validate_python(input) if stage.takes_input else None
    settings = None
    if signature.config.type is not None:
        given = {**signature.config.defaults(), **config} if isinstance(config, Mapping) else config
        settings = signature.config.adapter.validate_python(signature.config.defaults() if given is None else given)
    started = StartedStage(
        stage_run_id=uuid.uuid4(),
        run_id=uuid.uuid4(),
        workflow_id="test",
        stage_id=stage.id,
        group_number=1,
        stage_number=1,
        queue=stage.queue,
        priority=5,
        generation=0,
        map_index=-1,
        attempt=attempt,
        token=attempt,
        worker_id=uuid.uuid4(),
        failures=attempt - 1,
        crashes=0,
        alone=True,
        config={},
        metadata=metadata or {},
        input=InputReference({}),
    )
    known = {item if isinstance(item, str) else item.id: output for item, output in (outputs or {}).items()}
    desk = TestDesk(
        outputs=known, held=Held(started), subject_row=subject, answers=answers or {}, children=children or {}
    )
    desk.item_inputs = {one if isinstance(one, str) else one.id: given for one, given in (item_inputs or {}).items()}
    facts = StageFacts(started.run_id, "test", stage.id, stage.name, 1, attempt, 0, None, started.metadata)
    context = TestContext(facts, cast(In, value), cast(Cfg, settings), desk)
    context.desk = desk
    return context
