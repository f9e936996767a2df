"""Runs begin, go on and end."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from workflow_engine.errors import (
    IdempotencyConflict,
    InvalidTransition,
)
from workflow_engine.kernel.commands import (
    CancelRun,
    ClaimPendingRuns,
    CreateRun,
    ExpireRuns,
    PauseRun,
    PauseWork,
    RerunFrom,
    ResumeRun,
    ResumeWork,
    StartStages,
    TransitionRun,
)

from .steps import ANY, FEW, INTERVAL, MOST_RUNS, Steps, pick
from .world import Worker


class Operating(Steps):
    """What callers and operators do with runs."""

    @precondition(lambda self: len(self.world.runs) < MOST_RUNS)
    @rule(quick=st.booleans(), key=st.sampled_from(["", "", "a", "b"]), value=st.integers(0, 1), later=st.booleans())
    def create(self, quick: bool, key: str, value: int, later: bool) -> None:
        name, world = "quick" if quick else "order", self.world
        run_at = self.now + INTERVAL if later and not key else None
        command = CreateRun(
            workflow_id=name, input={"value": value}, priority=value * 5, run_at=run_at, idempotency_key=key or None
        )
        known = world.keys.get(key)
        self.seen["key again"] += known is not None
        if known is not None and known[1] != (name, value):
            self.refuses(command, IdempotencyConflict)
            return
        result = world.dispatch(command)
        assert result.created == (known is None)
        if known is not None:
            assert result.run_id == known[0]
            return
        self.touched = world.add_run(result.run_id, name)
        if key:
            world.keys[key] = (result.run_id, (name, value))

    def claim(self, worker: int, most: int, startable: bool) -> None:
        mine, world = pick(self.world.workers, worker), self.world
        starter = world.starter(mine, most) if startable else None
        result = world.dispatch(ClaimPendingRuns(max_claims=most, starter=starter))
        assert not result.failed and len(result.claimed) <= most
        for run_id in result.claimed:
            run = world.runs[run_id]
            assert ("workflow", run.workflow) not in world.paused
            run.begin(world.deadline(run))
        world.take(result.started, mine)

    def start(self, worker: int, slots: int) -> None:
        mine = pick(self.world.workers, worker)
        idle = not any(held.worker is mine for held in self.world.hands)
        self.begin(StartStages(starter=self.world.starter(mine, slots), idle=idle), mine)

    @precondition(lambda self: self.world.transport.pushed)
    @rule(worker=FEW, message=ANY)
    def deliver(self, worker: int, message: int) -> None:
        """A message comes: once, twice, late, or never."""
        mine, told = pick(self.world.workers, worker), pick(self.world.transport.pushed, message)
        hint = (told.stage_run_id,) if told.stage_run_id else None
        self.begin(StartStages(starter=self.world.starter(mine, 1), stage_run_ids=hint), mine)

    def begin(self, command: StartStages, worker: Worker) -> None:
        result = self.world.dispatch(command)
        self.world.skipped()
        assert len(result.started) <= command.starter.room
        self.world.take(result.started, worker)

    def cancel(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(CancelRun(run_id=run_id)).cancelled == mine.cancel()

    def rerun(self, run: int, stage: int) -> None:
        run_id, mine = self.run_of(run)
        stage_id = pick([stage for group in mine.groups for stage in group], stage)
        command = RerunFrom(run_id=run_id, stage_id=stage_id)
        if not mine.can_rerun(stage_id):
            self.refuses(command, InvalidTransition)
            return
        assert self.world.dispatch(command).generation == mine.generation + 1
        mine.rerun(stage_id, self.world.deadline(mine))
        self.seen["rerun"] += 1

    def pause(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(PauseRun(run_id=run_id)).changed == (mine.is_open and not mine.paused)
        mine.paused = mine.is_open

    def resume(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(ResumeRun(run_id=run_id)).changed == mine.paused
        mine.paused = False

    def pause_or_resume_work(self, what: tuple[str, str]) -> None:
        command = ResumeWork if what in self.world.paused else PauseWork
        assert self.world.dispatch(command(scope=what[0], name=what[1])).changed
        self.world.paused ^= {what}

    def transition(self, run: int) -> None:
        assert self.world.dispatch(TransitionRun(run_id=self.run_of(run)[0])).action == "noop"

    def expire(self) -> None:
        over = {pk for pk, run in self.world.runs.items() if run.status == "RUNNING" and self.is_over(run.deadline)}
        assert set(self.world.dispatch(ExpireRuns()).expired) == over
        self.seen["run expired"] += bool(over)
        for pk in over:
            self.world.runs[pk].expire()
