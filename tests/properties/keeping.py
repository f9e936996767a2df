"""What is told, put off, done to many, and thrown away."""

from __future__ import annotations

from datetime import timedelta

from workflow_engine.errors import (
    AlreadyScheduled,
)
from workflow_engine.kernel.commands import (
    Annotate,
    CancelScheduled,
    CarryOutBulk,
    FireSchedules,
    FlushOutbox,
    Prune,
    ReplayDeadLetters,
    ScheduleCommand,
    StartBulk,
)
from workflow_engine.models import WorkflowRun

from .model import Run
from .steps import INTERVAL, Steps, pick
from .world import Deferred


class Keeping(Steps):
    """Events, operations for later and for many, and pruning."""

    def flush(self, refused: str) -> None:
        for name, sink in self.world.sinks.items():
            sink.refuses = name == refused
        made = self.world.dispatch(FlushOutbox(max=20))
        self.seen.update({name: getattr(made, name) for name in ("delivered", "failed", "dead_lettered", "replayed")})
        for sink in self.world.sinks.values():
            sink.refuses = False

    def replay(self) -> None:
        self.seen["replay"] += self.world.dispatch(ReplayDeadLetters()).replayed

    def annotate(self, run: int, key: str | None, tells: bool) -> None:
        run_id, _ = self.run_of(run)
        before = WorkflowRun.objects.get(pk=run_id).annotations.filter(idempotency_key=key, key="fact").exists()
        command = Annotate(run_id=run_id, values={"fact": 1}, idempotency_key=key, emit_event=tells)
        assert self.world.dispatch(command).stored == (0 if key and before else 1)

    def put_off(self, run: int, kind: str) -> None:
        run_id, mine = self.run_of(run)
        payload, at = {"run_id": str(run_id)}, self.now + INTERVAL
        command = ScheduleCommand(command=kind, payload=payload, run_at=at, correlation_id=f"id-{kind}")
        pending = next((one for one in self.world.deferred if one.kind == kind), None)
        if pending is None:
            row = self.world.dispatch(command).row
            self.world.deferred.append(Deferred(kind, mine, at, row.pk))
        elif (pending.run, pending.at) == (mine, at):
            assert not self.world.dispatch(command).created
        else:
            self.refuses(command, AlreadyScheduled)

    def take_back(self, which: int) -> None:
        one = pick(self.world.deferred, which)
        for expected in (True, False):
            assert self.world.dispatch(CancelScheduled(command_id=one.id)).cancelled is expected
        self.world.deferred.remove(one)

    def fire(self) -> None:
        due = [one for one in self.world.deferred if self.is_over(one.at)]
        self.world.dispatch(FireSchedules())
        for one in sorted(due, key=lambda one: (one.at, one.id)):
            self.world.deferred.remove(one)
            self.seen["fired"] += 1
            if one.run in self.world.runs.values():
                self.change(one.kind.removeprefix("run."), one.run)

    def change(self, kind: str, run: Run) -> None:
        if kind == "cancel":
            run.cancel()
        elif run.is_open:
            run.paused = kind == "pause"

    def start_bulk(self, runs: list[int], kind: str) -> None:
        mine = {pick(list(self.world.runs), number) for number in runs}
        result = self.world.dispatch(StartBulk(kind=kind, runs=sorted(mine)))
        assert result.total == len(mine)
        self.world.bulks.append((kind, [self.world.runs[pk] for pk in mine]))

    def carry_out(self) -> None:
        while self.world.dispatch(CarryOutBulk()).done:
            pass
        self.seen["bulk"] += 1
        for kind, runs in self.world.bulks:
            for run in runs:
                if run in self.world.runs.values():
                    self.change(kind, run)
        self.world.bulks.clear()

    def prune(self, what: str) -> None:
        self.world.dispatch(Prune(what=what, older_than=timedelta(minutes=1)))
        left = set(WorkflowRun.objects.values_list("pk", flat=True))
        for pk in set(self.world.runs) - left:
            gone = self.world.runs.pop(pk)
            self.seen["pruned"] += 1
            assert what == "runs" and not gone.is_open
            for unit in gone.units:
                unit.holder = None
            self.world.keys = {key: known for key, known in self.world.keys.items() if known[0] != pk}
