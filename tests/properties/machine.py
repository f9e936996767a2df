"""Commands in every order that Hypothesis thinks of, against the engine and its model at the same time."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from .attempts import Attempts
from .keeping import Keeping
from .operating import Operating
from .steps import ANY, FEW, HOW, JANITORS, KEY, SECONDS, WORK, has_hands, has_runs
from .waits import Waits


class Commands(Operating, Attempts, Waits, Keeping):
    """Every rule is one command: the model says what it must come to, and ``compare`` that nothing else has changed."""

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
