"""The engine under test beside its model: how they are made, compared, and brought to rest."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connection, models

from tests.invariants import check_all, check_run
from workflow_engine.bootstrap import use_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.checked import ClaimedCheck
from workflow_engine.kernel.commands import CarryOutBulk, Command, FireSchedules, FlushOutbox, ResumeRun, ResumeWork
from workflow_engine.kernel.commands import WorkerFacts as Facts
from workflow_engine.kernel.ports import Limits
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import DeadLetter, OutboxEvent, StageRun, WorkflowRun
from workflow_engine.sinks.collecting import CollectingEventSink
from workflow_engine.testing import FakeClock, Subscriber
from workflow_engine.testing.driving import go_on
from workflow_engine.testing.kernels import SilentTransport, create_test_kernel

from .model import Run, Unit
from .workflows import DEADLINE, WORKFLOWS

LEASE, GRACE = timedelta(seconds=30), timedelta(seconds=10)
MAX_CRASHES = 3
MAX_ROUNDS = 60
ANSWERS = {"hard": True, "soft": True}


@dataclass(eq=False)
class Worker:
    facts: Facts
    lease_until: datetime | None = None
    dead: bool = False


@dataclass(eq=False)
class Held:
    """What a worker has in hand: a started stage, or a check that it has claimed."""

    work: StartedStage | ClaimedCheck
    run: Run
    unit: Unit
    worker: Worker

    @property
    def stage(self) -> StartedStage:
        return self.work.stage if isinstance(self.work, ClaimedCheck) else self.work

    @property
    def counts(self) -> bool:
        return self.unit.holder is self


@dataclass(eq=False)
class Deferred:
    kind: str
    run: Run
    at: datetime
    id: Any


class Refusing(CollectingEventSink):
    """Takes nothing while ``refuses`` is set."""

    def __init__(self) -> None:
        super().__init__(self._refuse)
        self.refuses = False

    def _refuse(self, event: Any) -> None:
        if self.refuses:
            raise RuntimeError("not now")


@dataclass(eq=False)
class World:
    """One engine on an empty database, with a clock that stands still."""

    clock: FakeClock = field(default_factory=FakeClock)
    runs: dict[uuid.UUID, Run] = field(default_factory=dict)
    keys: dict[str, tuple[uuid.UUID, Any]] = field(default_factory=dict)
    hands: list[Held] = field(default_factory=list)
    put_down: list[Held] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    bulks: list[tuple[str, list[Run]]] = field(default_factory=list)
    paused: set[tuple[str, str]] = field(default_factory=set)
    sinks: dict[str, Refusing] = field(default_factory=lambda: {"one": Refusing(), "two": Refusing()})

    def __post_init__(self) -> None:
        empty_tables()
        self.transport = SilentTransport()
        self.kernel = create_test_kernel(
            clock=self.clock,
            transport=self.transport,
            limits=Limits(max_crashes=MAX_CRASHES, max_event_tries=3),
            subscribers=[Subscriber(name, sink, timeout=5) for name, sink in self.sinks.items()],
        )
        self.using = ExitStack()
        self.using.enter_context(registry_override(*WORKFLOWS.values()))
        self.using.enter_context(use_kernel(self.kernel))
        self.workers = [self._worker() for _ in range(3)]

    def _worker(self) -> Worker:
        return Worker(Facts(uuid.uuid4(), "w", "h", 1, "0", slots=4, workflows=tuple(WORKFLOWS)))

    def replace(self, worker: Worker) -> None:
        """Let a worker die with what it has in hand, and another one take its place."""
        worker.dead = True
        self.workers[self.workers.index(worker)] = self._worker()

    def dispatch(self, command: Command[Any]) -> Any:
        return self.kernel.dispatch(command)

    def starter(self, worker: Worker, slots: int, *, alone: bool = False) -> Starter:
        return Starter(worker_id=worker.facts.id, slots=slots, alone=alone)

    def add_run(self, run_id: uuid.UUID, workflow_id: str, parent: Unit | None = None) -> Run:
        workflow = WORKFLOWS[workflow_id]
        run = Run(
            workflow_id,
            [[stage.id for stage in group.stages] for group in workflow.groups],
            mapped=frozenset(stage.id for group in workflow.groups if group.map for stage in group.stages),
            conditional=frozenset(stage.id for stage in workflow if stage.when is not None),
            hasty=frozenset(group.number for group in workflow.groups if group.fail_fast),
            parent=parent,
        )
        self.runs[run_id] = run
        return run

    def id_of(self, run: Run) -> uuid.UUID:
        return next(pk for pk, one in self.runs.items() if one is run)

    def deadline(self, run: Run) -> datetime | None:
        return self.clock.now() + DEADLINE if run.workflow == "order" else None

    def take(self, started: Iterable[StartedStage], worker: Worker) -> None:
        """Enter what a command has let start, having checked that it may."""
        for work in started:
            run = self.runs[work.run_id]
            unit = run.find(work.stage_id, work.map_index)
            assert ("queue", work.queue) not in self.paused and ("workflow", run.workflow) not in self.paused
            assert work.generation == run.generation, f"{work} is of another generation"
            held = Held(work, run, unit, worker)
            run.start(unit, held, worker, alone=work.alone)
            self.hands.append(held)

    def skipped(self) -> None:
        """Skip in the model what the engine has skipped: when it decides is its own affair, but not whether it may."""
        rows = StageRun.objects.current().filter(status="SKIPPED")
        for run_id, stage in rows.values_list("run", "stage"):
            unit = self.runs[run_id].find(stage)
            if unit.status != "SKIPPED":
                self.runs[run_id].skip(unit)

    def units(self, ids: Sequence[uuid.UUID]) -> list[tuple[Run, Unit]]:
        rows = StageRun.objects.filter(pk__in=ids).order_by("id").values_list("run", "stage", "map_index")
        return [(self.runs[run_id], self.runs[run_id].find(stage, index)) for run_id, stage, index in rows]

    def compare(self) -> None:
        """Assert that every run and every stage that counts is as the model says, and that nothing else is there."""
        real: dict[uuid.UUID, dict[tuple[str, int], str]] = {pk: {} for pk in self.runs}
        for run_id, stage, index, status in StageRun.objects.current().values_list(
            "run", "stage", "map_index", "status"
        ):
            real[run_id][stage, index] = status
        rows = {row.pk: row for row in WorkflowRun.objects.only("status", "generation", "paused_at")}
        assert set(rows) == set(self.runs)
        for pk, run in self.runs.items():
            row = rows[pk]
            found = (row.status, row.generation, row.paused_at is not None, real[pk])
            assert found == (run.status, run.generation, run.paused, run.statuses()), f"run {pk} of {run.workflow}"

    def check(self, run: Run) -> None:
        rows = WorkflowRun.objects.select_related("data").filter(
            pk__in=[pk for pk, one in self.runs.items() if one is run]
        )
        for row in rows:
            check_run(row)

    def come_to_rest(self) -> None:
        """Stop all faults, let every run end, every event arrive and every operation be done, and check everything."""
        for scope, name in sorted(self.paused):
            self.dispatch(ResumeWork(scope=scope, name=name))
        host = InlineHost(self.kernel)
        # Whoever held something is gone.
        self.clock.advance(LEASE + GRACE + timedelta(seconds=1))
        for _ in range(MAX_ROUNDS):
            self._round(host)
            open_runs = WorkflowRun.objects.open()
            if not open_runs.exists() and not self.dispatch(FlushOutbox()).more and not self._undelivered():
                break
            self.clock.advance(timedelta(minutes=1))
        assert not WorkflowRun.objects.open().exists(), "runs that do not end"
        assert not self._undelivered(), "events that do not arrive"
        assert check_all() == len(self.runs)
        self._check_delivered()

    def _round(self, host: InlineHost) -> None:
        from workflow_engine.kernel.commands import ReapStaleLeases, ReapStuckRuns

        self.dispatch(FireSchedules())
        while self.dispatch(CarryOutBulk()).done:
            pass
        assert self.dispatch(ReapStuckRuns()).failed == ()
        self.dispatch(ReapStaleLeases())
        for row in WorkflowRun.objects.open().order_by("id"):
            self.dispatch(ResumeRun(run_id=row.pk))
            if row.parent_run_id is None or row.parent_run.is_finished:
                go_on(host, row, self.clock, ANSWERS)

    def _undelivered(self) -> bool:
        from workflow_engine.models import EventCursor

        return OutboxEvent.objects.filter(pending=True).exists() or EventCursor.objects.exists()

    def _check_delivered(self) -> None:
        """Each sink has heard of every event, in order; but for dead letters, which come late or not at all."""
        for name, sink in self.sinks.items():
            dead = set(DeadLetter.objects.filter(subscriber=name).values_list("run", "sequence"))
            for run_id in self.runs:
                heard = list(dict.fromkeys(event.sequence for event in sink.events if event.run_id == run_id))
                every = list(
                    OutboxEvent.objects.filter(run=run_id).order_by("sequence").values_list("sequence", flat=True)
                )
                missing = [number for number in every if number not in heard]
                assert all((run_id, number) in dead for number in missing), f"{name} has not heard {missing}"

    def close(self) -> None:
        self.using.close()
        empty_tables()


def empty_tables() -> None:
    """Delete all rows of the engine, children first."""
    with connection.cursor() as cursor:
        for model in reversed(_in_order()):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")


@cache
def _in_order() -> list[type[models.Model]]:
    """Return the engine's models, each after those that the database lets it refer to."""
    left = list(apps.get_app_config("workflow_engine").get_models())
    done: list[type[models.Model]] = []
    while left:
        for model in list(left):
            needed = {field.related_model for field in model._meta.fields if getattr(field, "db_constraint", False)}
            if not needed & {*left} - {model}:
                done.append(model)
                left.remove(model)
    return done
