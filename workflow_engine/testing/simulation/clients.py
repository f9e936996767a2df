"""Clients and operators of a schedule: what they want outlives their processes, as it does with people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import Error

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.pausing import pause_run, pause_workflow, resume_run, resume_workflow
from workflow_engine.running import answer_stage, cancel_run, create_run, rerun_from

from .plans import Plan
from .processes import Process
from .world import World

MOST_TRIES = 4
ASKING = (
    "SELECT stage, wait_name, map_index FROM workflow_engine_stagerun "
    "WHERE run_id = ? AND status = 'SUSPENDED' AND wait_kind = 'answer' AND superseded_at IS NULL ORDER BY id"
)
ENDED = "SELECT 1 FROM workflow_engine_workflowrun WHERE id = ? AND finished_at IS NOT NULL"
TROUBLES = (Error, WorkflowEngineError)


@dataclass(eq=False, slots=True)
class Wish:
    """A run that somebody wants; they ask with the same key until they know that there is one."""

    plan: Plan
    key: str
    text: str
    run_id: Any = None
    # Everything that was ever said to be its id.
    told: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Operation:
    """Something that is done to a run."""

    kind: str
    wish: Wish
    stage: str = ""
    key: str = ""
    tries: int = 0
    done: bool = False


def start_client(process: Process, wishes: list[Wish]) -> None:
    world = process.world

    def work() -> None:
        open_wishes = [wish for wish in wishes if process.name not in wish.told]
        while open_wishes:
            wish = open_wishes[world.chance.randrange(len(open_wishes))]
            world.sleep(world.chance.expovariate(1 / 3.0))
            try:
                run = create_run(wish.plan.id, wish.plan.input(wish.text), idempotency_key=wish.key)
            except TROUBLES:
                continue
            if wish.run_id not in (None, run.pk):
                world.problems.append(f"two runs for one key: {wish.key} is {wish.run_id} and {run.pk}")
            wish.run_id = run.pk
            wish.told += (process.name,)
            open_wishes.remove(wish)

    process.spawn("create", work)


def start_operator(process: Process, wishes: list[Wish], operations: list[Operation]) -> None:
    world = process.world

    def work() -> None:
        while True:
            world.sleep(world.chance.expovariate(1 / 8.0))
            left = [one for one in operations if not one.done and _can_do(world, one)]
            try:
                if left:
                    one = left[world.chance.randrange(len(left))]
                    one.tries += 1
                    one.done = one.tries >= MOST_TRIES
                    _do(one)
                    one.done = True
                if not world.faults.are_on or world.chance.random() < 0.5:
                    _answer(world, wishes)
            except TROUBLES:
                pass
            if not world.faults.are_on:
                _let_go_on(operations)

    process.spawn("operate", work)


def _can_do(world: World, one: Operation) -> bool:
    """Only what has ended can be run again."""
    if one.kind != "rerun" or one.wish.run_id is None:
        return one.wish.run_id is not None
    return bool(world.database.rows(ENDED, one.wish.run_id.hex))


def _do(one: Operation) -> None:
    run_id, plan = one.wish.run_id, one.wish.plan
    if one.kind == "cancel":
        cancel_run(run_id)
    elif one.kind == "rerun":
        rerun_from(run_id, one.stage, idempotency_key=one.key)
    elif one.kind == "pause run":
        pause_run(run_id)
    elif one.kind == "resume run":
        resume_run(run_id)
    elif one.kind == "pause workflow":
        pause_workflow(plan.id)
    else:
        resume_workflow(plan.id)


def _answer(world: World, wishes: list[Wish]) -> None:
    for wish in wishes:
        if not wish.plan.answers or wish.run_id is None:
            continue
        for stage, name, item in world.database.rows(ASKING, wish.run_id.hex):
            answers = wish.plan.answers.get(name)
            if answers:
                answer = answers[world.chance.randrange(len(answers))]
                answer_stage(wish.run_id, stage, answer, wait=name, item=None if item < 0 else item)


def _let_go_on(operations: list[Operation]) -> None:
    """Nothing stays paused for ever."""
    for one in operations:
        if one.kind.startswith("pause") and one.done:
            try:
                (resume_run if one.kind == "pause run" else resume_workflow)(
                    one.wish.run_id if one.kind == "pause run" else one.wish.plan.id
                )
                one.kind = "resumed"
            except TROUBLES:
                pass
