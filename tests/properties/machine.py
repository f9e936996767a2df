"""Commands in every order that Hypothesis thinks of, against the engine and its model at the same time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workflow_engine.definitions.results import (
    ChildRequest,
    Completed,
    Expanded,
    Failed,
    StageError,
    StillPending,
    Suspended,
    Suspension,
)
from workflow_engine.errors import (
    AlreadyAnswered,
    AlreadyScheduled,
    IdempotencyConflict,
    InvalidInput,
    InvalidTransition,
    NotWaiting,
)
from workflow_engine.ids import uuid7
from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.commands import (
    Annotate,
    AnswerStage,
    Beat,
    CancelRun,
    CancelScheduled,
    CarryOutBulk,
    ClaimPendingRuns,
    CreateRun,
    DeliverNotices,
    ExpireRuns,
    FinishChecks,
    FinishStages,
    FireSchedules,
    FlushOutbox,
    Outcome,
    PauseRun,
    PauseWork,
    PollSuspendedStages,
    Prune,
    ReapStaleLeases,
    ReapStuckRuns,
    ReleaseStages,
    ReplayDeadLetters,
    RerunFrom,
    ResumeRun,
    ResumeWork,
    ScheduleCommand,
    StartBulk,
    StartStages,
    TransitionRun,
    WakeSuspendedStages,
)
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

from .model import Run, Unit
from .workflows import MAX_WAIT, QUICK
from .world import GRACE, LEASE, MAX_CRASHES, Deferred, Held, Worker, World

One = TypeVar("One")
OUTPUT = inline({"value": 1})
SHORT, INTERVAL = timedelta(0), timedelta(seconds=5)
ERROR = StageError("STAGE_FAILED", "Broken", "no")
# Which of those there are: the shrinker likes small numbers.
ANY = st.integers(0, 9)
FEW = st.integers(0, 3)


def pick(found: Sequence[One], number: int) -> One:
    return found[number % len(found)]


class Commands(RuleBasedStateMachine):
    """Every rule is one command: the model says what it must come to, and ``compare`` that nothing else has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.touched: Run | None = None

    @property
    def now(self) -> Any:
        return self.world.clock.now()

    def run_of(self, number: int) -> tuple[uuid.UUID, Run]:
        self.touched = pick(list(self.world.runs.values()), number)
        return self.world.id_of(self.touched), self.touched

    def has_runs(self) -> bool:
        return bool(self.world.runs)

    def has_hands(self) -> bool:
        return bool(self.world.hands)

    # Runs begin, go on and end.

    @rule(quick=st.booleans(), key=st.sampled_from(["", "", "a", "b"]), value=st.integers(0, 1), later=st.booleans())
    def create(self, quick: bool, key: str, value: int, later: bool) -> None:
        name, world = "quick" if quick else "order", self.world
        run_at = self.now + INTERVAL if later and not key else None
        command = CreateRun(
            workflow_id=name, input={"value": value}, priority=value * 5, run_at=run_at, idempotency_key=key or None
        )
        known = world.keys.get(key)
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

    @precondition(has_runs)
    @rule(worker=FEW, most=st.integers(1, 3), startable=st.booleans())
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

    @precondition(has_runs)
    @rule(worker=FEW, slots=st.integers(1, 4))
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

    @precondition(has_runs)
    @rule(run=ANY)
    def cancel(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(CancelRun(run_id=run_id)).cancelled == mine.cancel()

    @precondition(has_runs)
    @rule(run=ANY, stage=ANY)
    def rerun(self, run: int, stage: int) -> None:
        run_id, mine = self.run_of(run)
        stage_id = pick([stage for group in mine.groups for stage in group], stage)
        command = RerunFrom(run_id=run_id, stage_id=stage_id)
        if not mine.can_rerun(stage_id):
            self.refuses(command, InvalidTransition)
            return
        assert self.world.dispatch(command).generation == mine.generation + 1
        mine.rerun(stage_id, self.world.deadline(mine))

    @precondition(has_runs)
    @rule(run=ANY)
    def pause(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(PauseRun(run_id=run_id)).changed == (mine.is_open and not mine.paused)
        mine.paused = mine.is_open

    @precondition(has_runs)
    @rule(run=ANY)
    def resume(self, run: int) -> None:
        run_id, mine = self.run_of(run)
        assert self.world.dispatch(ResumeRun(run_id=run_id)).changed == mine.paused
        mine.paused = False

    @rule(what=st.sampled_from([("workflow", "order"), ("workflow", "quick"), ("queue", "default"), ("queue", "slow")]))
    def pause_or_resume_work(self, what: tuple[str, str]) -> None:
        command = ResumeWork if what in self.world.paused else PauseWork
        assert self.world.dispatch(command(scope=what[0], name=what[1])).changed
        self.world.paused ^= {what}

    @precondition(has_runs)
    @rule(run=ANY)
    def transition(self, run: int) -> None:
        assert self.world.dispatch(TransitionRun(run_id=self.run_of(run)[0])).action == "noop"

    @rule()
    def expire(self) -> None:
        over = {pk for pk, run in self.world.runs.items() if run.status == "RUNNING" and self.is_over(run.deadline)}
        assert set(self.world.dispatch(ExpireRuns()).expired) == over
        for pk in over:
            self.world.runs[pk].expire()

    def is_over(self, when: Any) -> bool:
        return when is not None and when <= self.now

    # Attempts end.

    @precondition(has_hands)
    @rule(
        held=ANY,
        how=st.sampled_from(["ok", "ok", "ok", "retry", "final", "timer", "hard", "soft", "poll", "child"]),
        goes_on=st.booleans(),
    )
    def finish(self, held: int, how: str, goes_on: bool) -> None:
        mine = pick(self.world.hands, held)
        self.world.hands.remove(mine)
        self.world.put_down.append(mine)
        self.end(mine, how, goes_on=goes_on)

    @precondition(lambda self: self.world.put_down)
    @rule(held=ANY, how=st.sampled_from(["ok", "final", "retry"]))
    def finish_again(self, held: int, how: str) -> None:
        """A result comes that was sent before, or whose stage was taken away."""
        mine = pick(self.world.put_down, held)
        assert not mine.counts
        self.end(mine, how, goes_on=False)

    def end(self, held: Held, how: str, *, goes_on: bool) -> None:
        self.touched = held.run
        if isinstance(held.work, ClaimedCheck):
            self.end_check(held, held.work, how)
            return
        counts, result, world = held.counts, self.result(held, how), self.world
        starter = world.starter(held.worker, 1) if goes_on and not held.worker.dead else None
        finished = world.dispatch(
            FinishStages(outcomes=(Outcome(held.stage, result, SHORT),), starter=starter)
        ).finished[0]
        assert (finished.kind == "ghost") == (not counts), f"{finished.kind}, and {counts=}"
        if counts:
            self.ended(held, result)
        assert starter is not None or not finished.next
        world.take(finished.next, held.worker)

    def result(self, held: Held, how: str) -> Any:
        """Return what a body could have come to: what it waits for once it does not wait for again."""
        known = StageMemo.objects.of(held.stage.stage_run_id)
        if how == "retry":
            return Failed(ERROR, INTERVAL)
        if how == "final":
            return Failed(ERROR, None)
        if held.stage.expands:
            return Expanded(tuple([OUTPUT] * 3))
        if how == "timer":
            return Suspended(Suspension("timer", f"nap-{held.stage.attempt}-{held.stage.token}", wake_in=INTERVAL))
        if how in ("hard", "soft") and ("answer", how) not in known:
            return Suspended(Suspension("answer", how, max_wait=MAX_WAIT))
        if how == "poll":
            wait = {"wake_in": INTERVAL, "poll_every": INTERVAL, "max_wait": MAX_WAIT}
            return Suspended(Suspension("poll", state=inline({}), **wait))
        if how == "child":
            before = ("child", "child") in known
            return Suspended(Suspension("child", "child", child=None if before else self.child()))
        return Completed(OUTPUT)

    def child(self) -> ChildRequest:
        plan, config = QUICK.plan(), QUICK.validate_config(None)
        return ChildRequest(uuid7(), "child", QUICK.id, plan, config, OUTPUT, 5, {}, "digest")

    def ended(self, held: Held, result: Any) -> None:
        run, unit = held.run, held.unit
        if isinstance(result, Completed):
            run.complete(unit)
        elif isinstance(result, Failed):
            (run.fail_unit if result.retry_in is None else run.put_back)(unit)
        elif isinstance(result, Expanded):
            run.expand(unit, len(result.items))
        else:
            wanted = result.suspension
            if wanted.child is not None:
                self.world.add_run(wanted.child.run_id, QUICK.id, parent=unit)
            until = self.now + INTERVAL if wanted.kind == "timer" else wanted.max_wait and self.now + wanted.max_wait
            run.suspend(unit, wanted.name if wanted.kind == "answer" else wanted.kind, until)

    def end_check(self, held: Held, check: ClaimedCheck, how: str) -> None:
        found = {
            "ok": Completed(OUTPUT),
            "retry": Failed(ERROR, INTERVAL),
            "final": Failed(ERROR, None),
        }.get(how, StillPending(INTERVAL))
        counts, run, unit = held.counts, held.run, held.unit
        finished = self.world.dispatch(FinishChecks(outcomes=(CheckOutcome(check, found, SHORT),))).finished[0]
        assert (finished.kind == "ghost") == (not counts), f"{finished.kind}, and {counts=}"
        if not counts:
            return
        unit.holder, unit.worker = None, None
        if how == "ok":
            run.complete(unit)
        elif how == "final" or self.is_over(unit.until):
            run.fail_unit(unit)

    @precondition(has_hands)
    @rule(held=st.lists(ANY, min_size=2, max_size=4, unique=True))
    def finish_together(self, held: list[int]) -> None:
        """Several attempts, whoever had them, complete in one transaction."""
        world = self.world
        stages = [one for one in world.hands if not isinstance(one.work, ClaimedCheck) and not one.stage.expands]
        mine = list({pick(stages, number) for number in held}) if stages else []
        mine.sort(key=world.hands.index)
        # One run's stages each as a whole: what comes second would find the tokens of the first try.
        outcomes = tuple(Outcome(one.stage, Completed(OUTPUT), SHORT) for one in mine)
        kinds = {
            done.stage_run_id: done.kind
            for done in world.dispatch(FinishStages(outcomes=outcomes, together=True)).finished
        }
        for one in mine:
            kind = kinds.get(one.stage.stage_run_id)
            if kind is None:
                continue
            world.hands.remove(one)
            world.put_down.append(one)
            assert one.counts or kind == "ghost"
            if kind != "ghost":
                one.run.complete(one.unit)

    # Workers live and die.

    @rule(worker=FEW)
    def beat(self, worker: int) -> None:
        mine = pick(self.world.workers, worker)
        hands = {held.stage.stage_run_id: held for held in self.world.hands if held.worker is mine}
        running = {pk: held.stage.token for pk, held in hands.items()}
        result = self.world.dispatch(Beat(worker=mine.facts, running=running))
        assert result.lost == {pk for pk, held in hands.items() if not held.counts}
        mine.lease_until = self.now + LEASE

    @rule(worker=FEW)
    def die(self, worker: int) -> None:
        """What it has in hand may still come to an end: a zombie's result."""
        self.world.replace(pick(self.world.workers, worker))

    @precondition(has_hands)
    @rule(worker=FEW)
    def release(self, worker: int) -> None:
        mine, world = pick(self.world.workers, worker), self.world
        hands = [held for held in world.hands if held.worker is mine]
        tokens = {held.stage.stage_run_id: held.stage.token for held in hands}
        result = world.dispatch(ReleaseStages(worker_id=mine.facts.id, tokens=tokens))
        mine_still = {held.stage.stage_run_id: held for held in hands if held.counts}
        assert set(result.released) <= set(mine_still)
        for pk in result.released:
            held = mine_still.pop(pk)
            self.let_go(held.run, held.unit)
        # Only what ended because another one was released.
        assert not any(held.counts for held in mine_still.values())
        for held in hands:
            world.hands.remove(held)
            world.put_down.append(held)

    def let_go(self, run: Run, unit: Unit) -> None:
        if unit.status == "SUSPENDED":
            unit.holder, unit.worker = None, None
        else:
            run.put_back(unit)

    @rule()
    def reap(self) -> None:
        world = self.world
        orphans = {
            held.stage.stage_run_id: held
            for held in (*world.hands, *world.put_down)
            if held.counts and not self.is_alive(held.worker)
        }
        result = world.dispatch(ReapStaleLeases())
        assert {*result.released, *result.failed} <= set(orphans)
        for pk in result.released:
            held = orphans[pk]
            if held.unit.status == "RUNNING":
                held.unit.crashes += held.unit.alone
                assert held.unit.crashes < MAX_CRASHES
            held.unit.suspect = True
            self.let_go(held.run, held.unit)
        for pk in result.failed:
            unit = orphans[pk].unit
            assert unit.alone and unit.crashes + 1 == MAX_CRASHES
            orphans[pk].run.fail_unit(unit)
        assert not any(held.counts for held in orphans.values())

    def is_alive(self, worker: Worker) -> bool:
        return worker.lease_until is not None and worker.lease_until >= self.now - GRACE

    @rule()
    def reap_stuck(self) -> None:
        result = self.world.dispatch(ReapStuckRuns())
        assert not result.transitioned and not result.failed

    @rule(seconds=st.sampled_from([1, 5, 5, 41, 41, 300, 7 * 3600]))
    def advance(self, seconds: int) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))

    # What waits goes on.

    @rule()
    def wake(self) -> None:
        result = self.world.dispatch(WakeSuspendedStages())
        for run, unit in self.world.units(result.resumed):
            assert unit.status == "SUSPENDED"
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
            one.leave("PENDING")

    @rule()
    def notices(self) -> None:
        world = self.world
        world.dispatch(DeliverNotices())
        cancelled = WorkflowRun.objects.filter(status="CANCELLED", parent_stage_run__isnull=False)
        for pk in cancelled.values_list("pk", flat=True):
            run = world.runs[pk]
            if run.is_open:
                assert run.parent is not None and run.parent.status == "CANCELLED"
                run.cancel()
        rows = StageRun.objects.current().filter(status="PENDING").values_list("run", "stage", "map_index")
        for run_id, stage, index in rows:
            unit = world.runs[run_id].find(stage, index)
            if unit.status == "SUSPENDED":
                assert unit.wait == "child" and self.child_has_ended(world.runs[run_id], unit)
                unit.leave("PENDING")

    # What is told, put off, done to many, and thrown away.

    @rule(refused=st.sampled_from(["", "", "one", "two"]))
    def flush(self, refused: str) -> None:
        for name, sink in self.world.sinks.items():
            sink.refuses = name == refused
        self.world.dispatch(FlushOutbox(max=20))
        for sink in self.world.sinks.values():
            sink.refuses = False

    @rule()
    def replay(self) -> None:
        self.world.dispatch(ReplayDeadLetters())

    @precondition(has_runs)
    @rule(run=ANY, key=st.sampled_from([None, "k"]), tells=st.booleans())
    def annotate(self, run: int, key: str | None, tells: bool) -> None:
        run_id, _ = self.run_of(run)
        before = WorkflowRun.objects.get(pk=run_id).annotations.filter(idempotency_key=key, key="fact").exists()
        command = Annotate(run_id=run_id, values={"fact": 1}, idempotency_key=key, emit_event=tells)
        assert self.world.dispatch(command).stored == (0 if key and before else 1)

    @precondition(has_runs)
    @rule(run=ANY, kind=st.sampled_from(["run.cancel", "run.pause", "run.resume"]), again=st.booleans())
    def put_off(self, run: int, kind: str, again: bool) -> None:
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

    @precondition(lambda self: self.world.deferred)
    @rule(which=FEW)
    def take_back(self, which: int) -> None:
        one = pick(self.world.deferred, which)
        for expected in (True, False):
            assert self.world.dispatch(CancelScheduled(command_id=one.id)).cancelled is expected
        self.world.deferred.remove(one)

    @rule()
    def fire(self) -> None:
        due = [one for one in self.world.deferred if self.is_over(one.at)]
        self.world.dispatch(FireSchedules())
        for one in sorted(due, key=lambda one: (one.at, one.id)):
            self.world.deferred.remove(one)
            if one.run in self.world.runs.values():
                self.change(one.kind.removeprefix("run."), one.run)

    def change(self, kind: str, run: Run) -> None:
        if kind == "cancel":
            run.cancel()
        elif run.is_open:
            run.paused = kind == "pause"

    @precondition(has_runs)
    @rule(runs=st.lists(ANY, min_size=1, max_size=3), kind=st.sampled_from(["cancel", "pause", "resume"]))
    def start_bulk(self, runs: list[int], kind: str) -> None:
        mine = {pick(list(self.world.runs), number) for number in runs}
        result = self.world.dispatch(StartBulk(kind=kind, runs=sorted(mine)))
        assert result.total == len(mine)
        self.world.bulks.append((kind, [self.world.runs[pk] for pk in mine]))

    @precondition(lambda self: self.world.bulks)
    @rule()
    def carry_out(self) -> None:
        while self.world.dispatch(CarryOutBulk()).done:
            pass
        for kind, runs in self.world.bulks:
            for run in runs:
                if run in self.world.runs.values():
                    self.change(kind, run)
        self.world.bulks.clear()

    @precondition(has_runs)
    @rule(what=st.sampled_from(["runs", "bulk", "schedules", "workers"]))
    def prune(self, what: str) -> None:
        self.world.dispatch(Prune(what=what, older_than=timedelta(minutes=1)))
        left = set(WorkflowRun.objects.values_list("pk", flat=True))
        for pk in set(self.world.runs) - left:
            gone = self.world.runs.pop(pk)
            assert what == "runs" and not gone.is_open
            for unit in gone.units:
                unit.holder = None
            self.world.keys = {key: known for key, known in self.world.keys.items() if known[0] != pk}

    def refuses(self, command: Any, errors: Any) -> None:
        try:
            self.world.dispatch(command)
        except errors:
            return
        raise AssertionError(f"{command} was not refused")

    @invariant()
    def agrees(self) -> None:
        """The engine is as the model says, and the run that the last command was about is sound."""
        self.world.compare()
        if self.touched is not None:
            self.world.check(self.touched)
            self.touched = None

    def teardown(self) -> None:
        try:
            self.world.come_to_rest()
        finally:
            self.world.close()
