"""Attempts end, and workers live and die."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from workflow_engine.definitions.results import (
    ChildRequest,
    Completed,
    Expanded,
    Failed,
    StillPending,
    Suspended,
    Suspension,
)
from workflow_engine.ids import uuid7
from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.commands import (
    Beat,
    FinishChecks,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    ReapStuckRuns,
    ReleaseStages,
)
from workflow_engine.models import StageMemo
from workflow_engine.models.payloads import inline

from .model import Run, Unit
from .steps import ANY, ERROR, HOW, INTERVAL, OUTPUT, SECONDS, SHORT, Steps, has_hands, pick
from .workflows import MAX_WAIT, QUICK
from .world import GRACE, LEASE, MAX_CRASHES, Held, Worker


class Attempts(Steps):
    """What workers do with the stages that they have in hand."""

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
