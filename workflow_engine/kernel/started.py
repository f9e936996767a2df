"""A started stage: all that running its body and finishing it needs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from workflow_engine.errors import MissingStageOutput
from workflow_engine.models import RunData, StageRun, WorkflowRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.models.stage_runs import NOT_AN_ITEM
from workflow_engine.statuses import DONE_STAGE, StageStatus

from .new_stages import NewStage
from .ports import Ports


@dataclass(frozen=True, slots=True)
class InputReference:
    """Where a stage's input lies: one envelope, or one per stage of the group before (``mapping``)."""

    envelopes: Mapping[str, dict[str, Any] | None]
    mapping: bool = False

    def raw(self, ports: Ports) -> bytes:
        """Load the input as JSON text. Raises ``MissingStageOutput``, ``BlobNotFound``, ``BlobCorrupt``."""
        missing = [stage_id for stage_id, envelope in self.envelopes.items() if envelope is None]
        if missing:
            raise MissingStageOutput(missing[0], [name for name in self.envelopes if name not in missing])
        values = {
            name: Envelope(envelope).raw(ports.blobs, using=ports.using) for name, envelope in self.envelopes.items()
        }
        if not self.mapping:
            return next(iter(values.values()))
        # Ids are lower-case ASCII words, so the keys need no escaping.
        return b"{%s}" % b",".join(b'"%s":%s' % (_key(name), value) for name, value in values.items())


def _key(stage_id: str) -> bytes:
    return stage_id.replace("-", "_").encode()


@dataclass(frozen=True, slots=True)
class StartedStage:
    """One attempt that this process holds: the row's facts, its fencing token and where its input lies."""

    stage_run_id: uuid.UUID
    run_id: uuid.UUID
    workflow_id: str
    stage_id: str
    group_number: int
    stage_number: int
    queue: str
    priority: int
    generation: int
    map_index: int
    attempt: int
    token: int
    worker_id: uuid.UUID
    failures: int
    crashes: int
    alone: bool
    config: Mapping[str, Any]
    metadata: Mapping[str, Any]
    input: InputReference = field(repr=False)
    # It is the mapped stage itself: its attempt makes the items.
    expands: bool = False
    # The run's side row as it was read at the start: finishing needs no second reading of it.
    data: RunData | None = field(default=None, repr=False, compare=False)

    @property
    def pk(self) -> uuid.UUID:
        return self.stage_run_id

    @property
    def stage(self) -> str:
        return self.stage_id

    @property
    def item_index(self) -> int | None:
        return None if self.map_index == NOT_AN_ITEM else self.map_index

    def row(self, using: str) -> StageRun:
        """Return the stage run as far as guarded updates need it, without reading it again."""
        row = StageRun(
            pk=self.stage_run_id,
            run_id=self.run_id,
            stage=self.stage_id,
            group_number=self.group_number,
            stage_number=self.stage_number,
            queue=self.queue,
            priority=self.priority,
            generation=self.generation,
            map_index=self.map_index,
            attempt=self.attempt,
            token=self.token,
            worker=self.worker_id,
            failures=self.failures,
            crashes=self.crashes,
            status=StageStatus.RUNNING,
        )
        row._state.db, row._state.adding = using, False
        return row


def stage_event(row: StageRun | NewStage | StartedStage) -> dict[str, Any]:
    """Return the fields that every event of a stage carries."""
    return {
        "stage_id": row.stage,
        "stage_run_id": str(row.pk),
        "attempt": row.attempt,
        "token": row.token,
        "item_index": row.item_index,
    }


def started_from(row: StageRun | NewStage, run: WorkflowRun, input: InputReference) -> StartedStage:
    """Describe a row that was just started under the lock of ``run``."""
    return StartedStage(
        stage_run_id=row.pk,
        run_id=run.pk,
        workflow_id=run.workflow,
        stage_id=row.stage,
        group_number=row.group_number,
        stage_number=row.stage_number,
        queue=row.queue,
        priority=row.priority,
        generation=row.generation,
        map_index=row.map_index,
        attempt=row.attempt,
        token=row.token,
        worker_id=cast(uuid.UUID, row.worker),
        failures=row.failures,
        crashes=row.crashes,
        alone=row.alone,
        # Rows of items hold none: it is the same for all of them.
        config=row.config if row.map_index == NOT_AN_ITEM else run.data.config_of(row.stage),
        metadata=run.metadata,
        input=input,
        expands=row.map_index == NOT_AN_ITEM and map_of(run.plan, row.group_number, row.stage) is not None,
        data=run.data,
    )


def item_input(item: dict[str, Any] | None) -> InputReference:
    """Return where the input of an item lies."""
    return InputReference({"item": item})


def map_of(plan: Mapping[str, Any], number: int, stage_id: str) -> Mapping[str, Any] | None:
    """Return how a stage of a run's plan is mapped; None: it is not."""
    return next((item.get("map") for item in group_of(plan, number) if item["id"] == stage_id), None)


def find_all_inputs(
    rows: Sequence[StageRun], runs: Mapping[uuid.UUID, WorkflowRun], using: str
) -> list[InputReference]:
    """Return where the inputs of stages and items lie, in the order of ``rows``."""
    items = {row.pk for row in rows if row.map_index != NOT_AN_ITEM}
    envelopes: dict[uuid.UUID, Any] = {}
    if items:
        envelopes = dict(StageRun.objects.using(using).filter(pk__in=items).values_list("pk", "item"))
    groups = [(runs[row.run_id], row.group_number) for row in rows if row.pk not in items]
    found = find_inputs(groups, using) if groups else {}
    return [
        item_input(envelopes.get(row.pk)) if row.pk in items else found[row.run_id, row.group_number] for row in rows
    ]


def plan_group(run: WorkflowRun, number: int) -> Sequence[Mapping[str, Any]]:
    """Return the stages of a group of the run's plan: ``[{"id": …, "queue": …}]``; empty past the last group."""
    return group_of(run.plan, number)


def group_of(plan: Mapping[str, Any], number: int) -> Sequence[Mapping[str, Any]]:
    groups = plan["groups"]
    return groups[number - 1]["stages"] if 0 < number <= len(groups) else ()


def fails_fast(run: WorkflowRun, number: int) -> bool:
    """Whether the first failure in a group of the run's plan ends it."""
    groups = run.plan["groups"]
    return 0 < number <= len(groups) and bool(groups[number - 1].get("fail_fast"))


def find_input(run: WorkflowRun, group_number: int, using: str) -> InputReference:
    """Return where the input of a group lies; outputs that are missing stand as None."""
    return find_inputs([(run, group_number)], using)[run.pk, group_number]


def find_inputs(wanted: Iterable[tuple[WorkflowRun, int]], using: str) -> dict[tuple[uuid.UUID, int], InputReference]:
    """Return where the inputs of (run, group) pairs lie, by run id and group number.

    One statement at most; one more for every group that was skipped before one of them.
    """
    pairs = {(run.pk, number): run for run, number in wanted}
    found: dict[tuple[uuid.UUID, int], InputReference] = {}
    # Group asked for -> the group before it whose outputs it gets.
    sources = {key: key[1] - 1 for key in pairs}
    while sources:
        for key in [key for key, number in sources.items() if number < 1]:
            found[key] = InputReference({"input": pairs[key].data.input})
            del sources[key]
        ended = _ended(pairs, sources, using) if sources else {}
        for key, number in list(sources.items()):
            reference = _outputs_of(pairs[key], number, ended)
            if reference is None:
                # Its only stage was skipped: the next gets what that would have got.
                sources[key] = number - 1
            else:
                found[key] = reference
                del sources[key]
    return found


Ended = Mapping[tuple[uuid.UUID, str], tuple[str, dict[str, Any] | None]]


def _ended(
    pairs: Mapping[tuple[uuid.UUID, int], WorkflowRun], sources: Mapping[tuple[uuid.UUID, int], int], using: str
) -> Ended:
    """Return status and output of the stages of the groups asked for that have succeeded or were skipped."""
    stage_ids = {item["id"] for key, number in sources.items() for item in plan_group(pairs[key], number)}
    rows = StageRun.objects.using(using).current().stages()
    rows = rows.filter(run__in={run_id for run_id, _ in sources}, stage__in=stage_ids, status__in=DONE_STAGE)
    return {
        (run_id, stage): (status, output)
        for run_id, stage, status, output in rows.values_list("run", "stage", "status", "output")
    }


def _outputs_of(run: WorkflowRun, number: int, ended: Ended) -> InputReference | None:
    """Return what a group gives to the next one; None if it is one stage, which was skipped."""
    stage_ids = [item["id"] for item in plan_group(run, number)]
    skipped = {stage_id for stage_id in stage_ids if ended.get((run.pk, stage_id), ("",))[0] == StageStatus.SKIPPED}
    if len(stage_ids) == 1 and skipped:
        return None
    envelopes = {
        stage_id: ended[run.pk, stage_id][1] if (run.pk, stage_id) in ended else None
        for stage_id in stage_ids
        if stage_id not in skipped
    }
    return InputReference(envelopes, mapping=len(stage_ids) > 1)
