"""What waits goes on."""

from __future__ import annotations

import uuid

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from workflow_engine.errors import (
    AlreadyAnswered,
    InvalidInput,
    NotWaiting,
)
from workflow_engine.kernel.commands import (
    AnswerStage,
    DeliverNotices,
    PollSuspendedStages,
    WakeSuspendedStages,
)
from workflow_engine.models import StageMemo, StageRun, WorkflowRun

from .model import Run, Unit
from .steps import ANY, FEW, Steps, has_runs, pick
from .world import Held


class Waits(Steps):
    """Timers, answers, checks and children."""

    def wake(self) -> None:
        result = self.world.dispatch(WakeSuspendedStages())
        self.seen["wait expired"] += bool(result.failed)
        for run, unit in self.world.units(result.resumed):
            assert unit.status == "SUSPENDED"
            self.seen[f"woken: {unit.wait}"] += 1
            if unit.wait == "child":
                assert self.child_has_ended(run, unit)
            else:
                assert unit.wait in ("timer", "soft") and self.is_over(unit.until)
            unit.leave("PENDING")
        for run, unit in self.world.units(result.failed):
            assert unit.wait == "hard" and self.is_over(unit.until)
            run.fail_unit(unit)
        late = [unit for run in self.world.runs.values() for unit in run.units if self.is_overdue(unit)]
        assert not late

    def is_overdue(self, unit: Unit) -> bool:
        return unit.status == "SUSPENDED" and unit.wait in ("timer", "soft", "hard") and self.is_over(unit.until)

    def child_has_ended(self, run: Run, unit: Unit) -> bool:
        row = StageRun.objects.current().get(run=self.world.id_of(run), stage=unit.stage, map_index=unit.index)
        memo = StageMemo.objects.get(stage_run=row.pk, kind="child")
        child = self.world.runs.get(uuid.UUID(memo.get_value()["run_id"]))
        return child is None or not child.is_open

    @rule(worker=FEW, most=st.integers(1, 3))
    def poll(self, worker: int, most: int) -> None:
        mine = pick(self.world.workers, worker)
        claimed = self.world.dispatch(PollSuspendedStages(worker_id=mine.facts.id, max=most)).claimed
        assert len(claimed) <= most
        for check in claimed:
            run = self.world.runs[check.stage.run_id]
            unit = run.find(check.stage.stage_id, check.stage.map_index)
            assert (run.status, run.paused, unit.status, unit.wait, unit.holder) == (
                "RUNNING",
                False,
                "SUSPENDED",
                "poll",
                None,
            )
            assert ("workflow", run.workflow) not in self.world.paused
            held = Held(check, run, unit, mine)
            unit.holder, unit.worker = held, mine
            self.world.hands.append(held)

    @precondition(has_runs)
    @rule(run=ANY, unit=ANY, right=st.booleans(), wait=st.sampled_from([None, "hard", "soft"]))
    def answer(self, run: int, unit: int, right: bool, wait: str | None) -> None:
        run_id, mine = self.run_of(run)
        asking = [one for one in mine.units if one.wait in ("hard", "soft")] or mine.units
        one = pick(asking, unit) if asking else Unit(mine.groups[0][0], 1)
        item = None if one.index < 0 else one.index
        data = True if right else {"no": "answer"}
        command = AnswerStage(run_id=run_id, stage_id=one.stage, item=item, data=data, wait=wait)
        waits = one.status == "SUSPENDED" and one.wait in ("hard", "soft") and wait in (None, one.wait)
        if not waits:
            self.refuses(command, (NotWaiting, AlreadyAnswered))
        elif not right:
            self.refuses(command, InvalidInput)
        else:
            assert self.world.dispatch(command).answered
            self.seen["answered"] += 1
            one.leave("PENDING")

    def notices(self) -> None:
        world = self.world
        world.dispatch(DeliverNotices())
        cancelled = WorkflowRun.objects.filter(status="CANCELLED", parent_stage_run__isnull=False)
        for pk in cancelled.values_list("pk", flat=True):
            run = world.runs[pk]
            if run.is_open:
                assert run.parent is not None and run.parent.status == "CANCELLED"
                run.cancel()
                self.seen["child cancelled"] += 1
        rows = StageRun.objects.current().filter(status="PENDING").values_list("run", "stage", "map_index")
        for run_id, stage, index in rows:
            unit = world.runs[run_id].find(stage, index)
            if unit.status == "SUSPENDED":
                assert unit.wait == "child" and self.child_has_ended(world.runs[run_id], unit)
                unit.leave("PENDING")
                self.seen["child ended"] += 1
