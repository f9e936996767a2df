"""``simulate``: one seed, one schedule, and what was wrong in it."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from workflow_engine.kernel import points
from workflow_engine.kernel.subscribers import Subscriber
from workflow_engine.models.compiled import forget_statements

from .checks import find_violations
from .clients import Operation, Wish, start_client, start_operator
from .database import Database, database
from .hosts import Sink, start_flusher, start_orchestrator
from .liveness import is_quiet, what_is_left
from .outcome import Outcome
from .plans import PLANS, Plan
from .registry import PlanRegistry
from .settings import Settings, draw_settings
from .virtual import virtual
from .workers import start_worker
from .world import World

Mutant = Callable[[], AbstractContextManager[Any]]
# Turns between two looks whether everything has ended.
LOOK_EVERY = 10
MOST_PLANS = 2
# They are not needed where nothing goes wrong, and cost time.
SPARE = ("orchestrator-1", "flusher-1")
SINKS = ("books", "mails")
# Whoever has delivered for more than twice that has lost the claim.
SINK_SECONDS = 10
KINDS = ("cancel", "cancel", "rerun", "rerun", "pause run", "resume run", "pause workflow", "resume workflow")


def simulate(
    seed: int | str,
    *,
    mutants: Sequence[Mutant] = (),
    settings: Settings | None = None,
    plans: Sequence[Plan] = PLANS,
) -> Outcome:
    """Play one schedule: clients, workers, orchestrators and flushers, and what goes wrong among them.

    First there are faults; then there are none any more, and everything must come to its end.

    Args:
        mutants: context managers inside which the engine is broken on purpose.
        settings: None: the seed draws them.
        plans: the workflows to choose from; those of a project too.
    """
    chosen = settings or draw_settings(random.Random(f"{seed}/settings"))  # noqa: S311 - not a secret
    with ExitStack() as stack:
        for mutant in mutants:
            stack.enter_context(mutant())
        if mutants:
            # What was compiled before is not broken, and what is compiled now is not to stay.
            forget_statements()
            stack.callback(forget_statements)
        return _Schedule(seed, chosen, plans, database()).play()


class _Schedule:
    def __init__(self, seed: int | str, settings: Settings, plans: Sequence[Plan], where: Database) -> None:
        self.seed, self.settings, self.database = seed, settings, where
        where.empty()
        chance = random.Random(f"{seed}/wishes")  # noqa: S311 - not a secret
        # Few workflows at a time: what is asked of the database for each of them costs most.
        chosen = chance.choices(plans, [plan.weight for plan in plans], k=MOST_PLANS)
        self.world = World(seed, settings, where, PlanRegistry(plans))
        self.wishes = [
            Wish(
                plan=chosen[number % MOST_PLANS], key=f"key-{number}", text="x" * number + str(chance.randrange(10**6))
            )
            for number in range(settings.runs)
        ]
        self.operations = [self._operation(chance, number) for number in range(settings.operations)]
        self.sinks = [Sink(self.world, name) for name in SINKS[: settings.sinks]]

    def _operation(self, chance: random.Random, number: int) -> Operation:
        kind, wish = chance.choice(KINDS), chance.choice(self.wishes)
        stage = chance.choice(wish.plan.rerun) if wish.plan.rerun else ""
        return Operation(kind if stage or kind != "rerun" else "cancel", wish, stage, f"operation-{number}")

    def play(self) -> Outcome:
        world = self.world
        ids = random.Random(f"{self.seed}/ids")  # noqa: S311 - not a secret
        violations: list[str] = []
        with virtual(ids, lambda: world.seconds, world.pause, world.skew), _watched(world), _quiet():
            world.subscribers = tuple(Subscriber(sink.name, sink, timeout=SINK_SECONDS) for sink in self.sinks)
            self._boot()
            try:
                violations = self._run()
            except Exception as error:
                violations = [f"a host has broken down: {type(error).__name__}: {error}"]
            finally:
                self._end()
            if not violations:
                violations = find_violations(world, self.wishes, self.sinks)
        return self._outcome(violations)

    def _boot(self) -> None:
        for number in range(2):
            self.world.boot(f"client-{number}", partial(start_client, wishes=self.wishes))
        self.world.boot("operator", partial(start_operator, wishes=self.wishes, operations=self.operations))
        for name, count, start in (
            ("worker", self.settings.workers, start_worker),
            ("orchestrator", self.settings.orchestrators, start_orchestrator),
            ("flusher", self.settings.flushers, start_flusher),
        ):
            for number in range(count):
                self.world.boot(f"{name}-{number}", start)

    def _run(self) -> list[str]:
        world, settings = self.world, self.settings
        for step in range(settings.fault_steps):
            if step % LOOK_EVERY == 0 and is_quiet(world, self.wishes, self.operations):
                break
            world.turn()
            if world.faults.strikes("queue emptied", "network"):
                world.network.forget()
        world.faults.are_on = False
        for name in SPARE:
            world.stop(name)
        for step in range(settings.calm_steps):
            if step % LOOK_EVERY == 0 and is_quiet(world, self.wishes, self.operations):
                return []
            world.turn()
        return list(what_is_left(world, self.wishes)) or ["the schedule does not come to rest"]

    def _end(self) -> None:
        self.world.current = None
        for process in self.world.processes:
            process.kill()

    def _outcome(self, violations: list[str]) -> Outcome:
        world = self.world
        statuses = Counter(status for (status,) in self.database.rows("SELECT status FROM workflow_engine_workflowrun"))
        return Outcome(
            seed=self.seed,
            violations=tuple(violations),
            trace=tuple(f"{step} {seconds:.3f} {who}: {what}" for step, seconds, who, what in world.trace),
            steps=world.step,
            seconds=world.seconds,
            faults=tuple(world.faults.listed),
            counts=dict(world.faults.counts),
            statuses=dict(statuses),
            settings=replace(self.settings),
        )


@contextmanager
def _watched(world: World) -> Iterator[None]:
    """Let the world stand between all statements and COMMITs, and at all points of the engine."""
    wrapper: Any = world.database.wrapper
    commit = wrapper._commit

    def commit_and_answer() -> None:
        commit()
        world.after_commit()

    before = points.install(world.hit)
    wrapper._commit = commit_and_answer
    try:
        with wrapper.execute_wrapper(world.around_statement):
            yield
    finally:
        del wrapper._commit
        points.install(before)


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("workflow_engine")
    before, log.disabled = log.disabled, True
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.disabled = before
        log.setLevel(level)
