"""What must hold after a schedule: the doctor's checks, the invariants of runs, and what only a schedule can see."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from workflow_engine.bootstrap import use_kernel
from workflow_engine.errors import WorkflowEngineError
from workflow_engine.kernel.commands.reap_stale_leases import TAKEN_LATE
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import StageStatus
from workflow_engine.testing import invariants

from .clients import Wish
from .database import ALIAS
from .hosts import Sink
from .world import MAX_CRASHES, World

LEGAL = {
    ("run", "PENDING"): {"RUNNING", "FAILED", "CANCELLED"},
    ("run", "RUNNING"): {"COMPLETED", "FAILED", "CANCELLED"},
    ("run", "COMPLETED"): {"RUNNING"},
    ("run", "FAILED"): {"RUNNING"},
    ("run", "CANCELLED"): {"RUNNING"},
    ("stage", "PENDING"): {"RUNNING", "SKIPPED", "CANCELLED", "FAILED", "SUSPENDED"},
    ("stage", "RUNNING"): {"COMPLETED", "FAILED", "SUSPENDED", "CANCELLED", "PENDING"},
    ("stage", "SUSPENDED"): {"COMPLETED", "FAILED", "PENDING", "CANCELLED"},
}
# A body that kills its worker is entered once in company, and as often as it may crash alone.
MOST_ENTERED = MAX_CRASHES + 1
ALSO_EXAMINED = 0.1


def find_violations(world: World, wishes: Sequence[Wish], sinks: Sequence[Sink]) -> list[str]:
    """Return what is wrong, one sentence each."""
    found = list(world.problems)
    found += _changes(world)
    runs = {run.pk: run for run in WorkflowRun.objects.using(ALIAS).select_related("data")}
    kernel = world.kernel(0.0)
    with use_kernel(kernel):
        found += _keys(world, wishes, runs)
        found += _ends(wishes, runs)
        found += _effects(world, wishes, runs)
        found += _deliveries(world, runs, sinks)
        found += _entries(world)
        # What the rules say of a quiet system; what the doctor asks of what should be moving is asked now and then,
        # since nothing is open any more.
        broken = {*invariants.find_violations(ALIAS)}
        if world.chance.random() < ALSO_EXAMINED:
            broken |= {*examine(kernel.ports).findings}
        found += sorted(f"{one.code} run {one.run_id} {one.stage}: {one.text}"[:500] for one in broken)
    return found


def _changes(world: World) -> Iterator[str]:
    """What the database itself has seen."""
    for kind, row, old, new, actor in world.database.rows("SELECT * FROM sim_change"):
        if kind not in ("run", "stage"):
            yield f"{kind}: {row} from {old} to {new} by {actor}"
        elif new not in LEGAL.get((kind, old), ()):
            yield f"illegal change of a {kind}: {row} from {old} to {new}"


def _keys(world: World, wishes: Sequence[Wish], runs: dict[Any, WorkflowRun]) -> Iterator[str]:
    mine = [run for run in runs.values() if run.parent_stage_run_id is None]
    wanted = {wish.run_id for wish in wishes if wish.run_id is not None}
    for run in mine:
        if run.pk not in wanted:
            yield f"run {run.pk} is nobody's: two runs for one key"
    for wish in wishes:
        if wish.run_id is not None and wish.run_id not in runs:
            yield f"run {wish.run_id} was promised for {wish.key} and is not there"


def _ends(wishes: Sequence[Wish], runs: dict[Any, WorkflowRun]) -> Iterator[str]:
    """Healthy runs complete with the output that the model has; the others fail, and nothing else."""
    for wish in wishes:
        run = runs.get(wish.run_id)
        if run is None or run.finished_at is None or run.status == "CANCELLED":
            continue
        if run.status not in wish.plan.ends:
            yield f"run {run.pk} of {wish.plan.id} is {run.status}: {json.dumps(run.error)[:300]}"
        elif run.status == "COMPLETED" and wish.plan.expected is not None:
            expected = wish.plan.expected(wish.plan.input(wish.text))
            try:
                output = run.get_output()
            except WorkflowEngineError as error:
                yield f"the output of run {run.pk} of {wish.plan.id} cannot be read: {error}"
                continue
            if output not in expected:
                yield f"wrong output of run {run.pk} of {wish.plan.id}: {output!r}"


def _effects(world: World, wishes: Sequence[Wish], runs: dict[Any, WorkflowRun]) -> Iterator[str]:
    """What a stage does in its completing transaction happens exactly once if it completes."""
    counted: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in world.database.rows("SELECT run_id, stage, item, generation FROM sim_effect"):
        counted[row] += 1
    wanted: dict[tuple[Any, ...], int] = {}
    for wish in wishes:
        if not wish.plan.effects or wish.run_id not in runs:
            continue
        rows = StageRun.objects.using(ALIAS).filter(run=wish.run_id, stage__in=sorted(wish.plan.effects))
        for stage in rows.filter(status=StageStatus.COMPLETED):
            wanted[str(stage.run_id), stage.stage, stage.map_index, stage.generation] = 1
    for key in sorted({*counted, *wanted}):
        if counted.get(key, 0) != wanted.get(key, 0):
            yield f"effects of {key}: {counted.get(key, 0)}, and it completed {wanted.get(key, 0)} times"


def _deliveries(world: World, runs: dict[Any, WorkflowRun], sinks: Sequence[Sink]) -> Iterator[str]:
    """Everybody hears of every event, in order; twice only after somebody died, hung or raised."""
    troubles = sum(count for name, count in world.troubles.items() if name.startswith("flusher"))
    troubled = troubles or world.faults.counts["conflict"] or world.faults.counts["answer of commit lost"]
    for sink in sinks:
        for run in runs.values():
            heard = sink.heard.get(run.pk.hex, [])
            firsts = list(dict.fromkeys(heard))
            if firsts != list(range(1, run.event_seq + 1)):
                yield f"{sink.name} heard {heard} of the {run.event_seq} events of run {run.pk}"
            elif len(heard) > len(firsts) and not troubled and not sink.denied:
                yield f"{sink.name} heard {heard} of run {run.pk}, though nobody died"


def _entries(world: World) -> Iterator[str]:
    """A token is good for one attempt, and the last one wins."""
    per_row: dict[str, int] = defaultdict(int)
    latest: dict[str, int] = defaultdict(int)
    for (row, token, is_check), count in world.entered.items():
        per_row[row] += not is_check
        latest[row] = max(latest[row], token)
        if count > 1:
            yield f"{'check' if is_check else 'body'} of {row} was entered {count} times under token {token}"
    for row, token in world.database.rows(WON):
        if token < latest[row]:
            yield f"token {token} of {row} has won, though {latest[row]} was given later"
    for row, late in world.database.rows(POISON, TAKEN_LATE):
        # Of a worker that was frozen past its lease before it took it, nobody knows what ended it.
        if (count := per_row[row]) > MOST_ENTERED + late:
            yield f"a body that kills its worker was entered {count} times"


WON = "SELECT stage_run_id, token FROM workflow_engine_stageattempt WHERE outcome = 'completed'"
POISON = """
SELECT s.id, (SELECT count(*) FROM workflow_engine_stageattempt a WHERE a.stage_run_id = s.id AND a.error_message = ?)
FROM workflow_engine_stagerun s WHERE s.stage = 'poison'"""
