"""Commands in every order that Hypothesis thinks of, against the engine and its model at the same time."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
MOST_RUNS = 4
OUTPUT = inline({"value": 1})
SHORT, INTERVAL = timedelta(0), timedelta(seconds=5)
ERROR = StageError("STAGE_FAILED", "Broken", "no")
HOW = st.sampled_from(["ok", "ok", "ok", "ok", "retry", "final", "timer", "hard", "soft", "poll", "child"])
JANITORS = ["reap", "reap_stuck", "expire", "wake", "wake", "notices", "notices", "fire"]
SECONDS = [0, 1, 5, 5, 41, 41, 300, 7 * 3600]
WORK = [("workflow", "order"), ("workflow", "quick"), ("queue", "default"), ("queue", "slow")]
KEY = st.sampled_from([None, "k"])
# Which of those there are: the shrinker likes small numbers.
ANY = st.integers(0, 9)
FEW = st.integers(0, 3)


def pick(found: Sequence[One], number: int) -> One:
    return found[number % len(found)]


class Commands(RuleBasedStateMachine):
    """Every rule is one command: the model says what it must come to, and ``compare`` that nothing else has changed."""

    # How often what must not be missing from all this has happened.
    seen: ClassVar[Counter[str]] = Counter()

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

    @initialize(quick=st.booleans(), depth=st.integers(0, 8))
    def begin_somewhere(self, quick: bool, depth: int) -> None:
        """Most of what can go wrong is not at the beginning of a run."""
        self.create(quick=False, key="", value=1, later=False)
        self.create(quick=quick, key="", value=0, later=False)
        self.beat(0)
        for _ in range(depth):
            self.work(0, "ok", goes_on=False)

    # Rules are few, so that each is often tried: several of them do one of many things.

    @precondition(has_runs)
    @rule(worker=FEW, slots=st.integers(1, 4), claims=st.booleans())
    def take(self, worker: int, slots: int, claims: bool) -> None:
        if claims:
            self.claim(worker, most=slots, startable=slots < 4)
        self.start(worker, slots)

    @precondition(has_runs)
    @rule(worker=FEW, how=HOW, goes_on=st.booleans())
    def work(self, worker: int, how: str, goes_on: bool) -> None:
        self.take(worker, slots=2, claims=True)
        if self.world.hands:
            self.finish(-1, how, goes_on)

    @precondition(has_hands)
    @rule(how=HOW)
    def finish_all(self, how: str) -> None:
        for _ in range(len(self.world.hands)):
            self.finish(0, how, goes_on=False)

    @rule(acts=st.lists(st.sampled_from(["beat", "beat", "die", "release"]), min_size=1, max_size=2), worker=FEW)
    def worker_acts(self, acts: list[str], worker: int) -> None:
        for act in acts:
            getattr(self, act)(worker)

    @rule(acts=st.lists(st.sampled_from(JANITORS), min_size=1, max_size=4), seconds=st.sampled_from(SECONDS))
    def tick(self, acts: list[str], seconds: int) -> None:
        self.advance(seconds)
        for act in acts:
            getattr(self, act)()

    @precondition(has_runs)
    @rule(
        act=st.sampled_from(["cancel", "pause", "resume", "resume", "rerun", "rerun", "transition"]), run=ANY, stage=ANY
    )
    def operator_acts(self, act: str, run: int, stage: int) -> None:
        self.rerun(run, stage) if act == "rerun" else getattr(self, act)(run)

    @rule(what=st.sampled_from(WORK), resumes=st.booleans())
    def work_is_paused(self, what: tuple[str, str], resumes: bool) -> None:
        for one in sorted(self.world.paused) if resumes else [what]:
            self.pause_or_resume_work(one)

    @precondition(has_runs)
    @rule(kind=st.sampled_from(["cancel", "pause", "resume"]), runs=st.lists(ANY, min_size=1, max_size=3), act=FEW)
    def many_or_later(self, kind: str, runs: list[int], act: int) -> None:
        if act == 0:
            self.start_bulk(runs, kind)
        elif act == 1 and self.world.bulks:
            self.carry_out()
        elif act == 2 and self.world.deferred:
            self.take_back(runs[0])
        else:
            self.put_off(runs[0], f"run.{kind}")

    @precondition(has_runs)
    @rule(refused=st.sampled_from(["", "one", "two"]), replays=st.booleans(), times=st.integers(1, 4))
    def tell(self, refused: str, replays: bool, times: int) -> None:
        if replays:
            self.replay()
        for _ in range(times):
            self.flush(refused)
            self.advance(300 if refused else 0)

    @precondition(has_runs)
    @rule(what=st.sampled_from(["runs", "bulk", "schedules", "workers", ""]), run=ANY, key=KEY, tells=st.booleans())
    def keep_house(self, what: str, run: int, key: str | None, tells: bool) -> None:
        self.prune(what) if what else self.annotate(run, key, tells)

    # Runs begin, go on and end.

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

    def is_over(self, when: Any) -> bool:
        return when is not None and when <= self.now

    # Attempts end.

    @precondition(has_hands)
    @rule(
        held=ANY,
        how=HOW,
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
        self.seen[f"attempt {finished.kind}"] += 1
        self.seen["started with what ended"] += bool(finished.next)
        if counts:
            self.seen[type(result).__name__] += 1
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
        self.seen[f"check {finished.kind}"] += 1
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
            self.seen[f"together {kind}"] += 1
            if kind != "ghost":
                one.run.complete(one.unit)

    # Workers live and die.

    def beat(self, worker: int) -> None:
        mine = pick(self.world.workers, worker)
        hands = {held.stage.stage_run_id: held for held in self.world.hands if held.worker is mine}
        running = {pk: held.stage.token for pk, held in hands.items()}
        result = self.world.dispatch(Beat(worker=mine.facts, running=running))
        assert result.lost == {pk for pk, held in hands.items() if not held.counts}
        self.seen["beat tells of what is lost"] += bool(result.lost)
        mine.lease_until = self.now + LEASE

    def die(self, worker: int) -> None:
        """What it has in hand may still come to an end: a zombie's result."""
        self.world.replace(pick(self.world.workers, worker))

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

    def reap(self) -> None:
        world = self.world
        orphans = {
            held.stage.stage_run_id: held
            for held in (*world.hands, *world.put_down)
            if held.counts and not self.is_alive(held.worker)
        }
        result = world.dispatch(ReapStaleLeases())
        assert {*result.released, *result.failed} <= set(orphans)
        self.seen["reaped"] += bool(result.released)
        self.seen["given up"] += bool(result.failed)
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

    def reap_stuck(self) -> None:
        result = self.world.dispatch(ReapStuckRuns())
        assert not result.transitioned and not result.failed

    @rule(seconds=st.sampled_from(SECONDS[1:]))
    def advance(self, seconds: int) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))

    # What waits goes on.

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

    # What is told, put off, done to many, and thrown away.

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
        for run in self.world.runs.values():
            self.seen[f"run {run.status}"] += 1
            self.seen.update(f"{unit.stage} {unit.status}" for unit in run.units)
        try:
            self.world.come_to_rest()
        finally:
            self.world.close()
