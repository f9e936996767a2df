"""What happened in a round, put together from the rows, the journal of the bodies and the nemesis' book."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.soak.chaos.nemesis import Deed
from tests.soak.chaos.plugins import heard
from tests.soak.journal import Entry, entries
from workflow_engine.models import StageAttempt, StageRun, WorkerHeartbeat

# An attempt: run, stage, item, generation, number.
Key = tuple[str, str, int, int, int]


@dataclass
class Facts:
    """Times are in seconds. ``unexplained``: attempts that were lost although nobody did anything to their worker."""

    executions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lost_by: Counter[str] = field(default_factory=Counter)
    # Lost or released attempts whose body had begun, and bodies that began again after such an end.
    hits: Counter[str] = field(default_factory=Counter)
    re_executed: int = 0
    # Bodies that were under way in a process that was killed, without those that had done it themselves.
    bystanders: int = 0
    # From a kill to when the stage was taken back, and to when its body began again; no server was hit meanwhile.
    taken_back: list[float] = field(default_factory=list)
    begun_again: list[float] = field(default_factory=list)
    # Bodies that ended after their attempt had been given to others.
    late_bodies: int = 0
    after_restart: list[float] = field(default_factory=list)
    # Stages that were given up because they killed their worker; and calls of the plugin besides the first.
    budgets: int = 0
    plugin_doubles: int = 0
    wrong: list[str] = field(default_factory=list)
    # Stage run -> its attempts that were lost for a reason that is known.
    excused: Counter[uuid.UUID] = field(default_factory=Counter)


def gather(since: datetime, deeds: Sequence[Deed], silent: set[str], bound: float) -> Facts:
    """Put it together for the runs that were created since then."""
    facts = Facts()
    found = entries()
    begun: dict[Key, Entry] = {}
    for entry in found:
        if entry.kind == "in":
            facts.executions += 1
            if _key(entry) in begun:
                facts.wrong.append(f"the body of {_key(entry)} was entered twice")
            begun[_key(entry)] = entry
    attempts = StageAttempt.objects.filter(run__created_at__gte=since)
    facts.outcomes.update(attempts.values_list("outcome", flat=True))
    facts.budgets = StageRun.objects.filter(run__created_at__gte=since, error__code="WORKER_LOST").count()
    calls = heard()
    facts.plugin_doubles = len(calls) - len({call[1:] for call in calls})
    _judge_lost(facts, attempts, found, begun, deeds, silent, bound)
    _judge_completed(facts, attempts, found, begun)
    _time_restarts(facts, attempts, deeds)
    return facts


def _key(entry: Entry) -> Key:
    return (*entry.row, entry.attempt)


def _judge_lost(facts: Facts, attempts, found, begun, deeds, silent, bound) -> None:  # type: ignore[no-untyped-def]
    pids = dict(WorkerHeartbeat.objects.values_list("id", "pid"))
    killed = {entry.pid: entry.at for entry in found if entry.kind == "in" and entry.stage == "deadly"}
    killed |= {pid: deed.began for deed in deeds if deed.act.kind.startswith("kill") for pid in deed.pids}
    frozen = {pid for deed in deeds if deed.act.kind.startswith("stop") for pid in deed.pids}
    noisy = [deed for deed in deeds if deed.act.kind.startswith(("pg", "stop"))]
    ended = {_key(entry): entry.at for entry in found if entry.kind != "in"}
    rows = attempts.filter(outcome__in=("lost", "released"), kind="body").values_list(
        "run_id", "stage", "stage_run__map_index", "generation", "attempt", "worker", "finished_at", "outcome",
        "stage_run_id",
    )  # fmt: skip
    for run_id, stage, item, generation, number, worker, finished_at, outcome, stage_run in rows:
        key = (str(run_id), stage, item, generation, number)
        pid, back_at = pids.get(worker, 0), finished_at.timestamp()
        kill = killed.get(pid)
        if outcome == "released":
            why = "drain"
        elif kill is not None and kill < back_at:
            why = "kill"
        else:
            why = "freeze" if pid in frozen else "silence" if str(worker) in silent else "unexplained"
        facts.lost_by[why] += 1
        facts.excused[stage_run] += why in ("kill", "freeze", "silence")
        facts.hits[why] += key in begun
        facts.bystanders += why == "kill" and key in begun and stage != "deadly"
        facts.late_bodies += outcome == "lost" and ended.get(key, 0.0) > back_at
        again = begun.get((*key[:4], number + 1))
        facts.re_executed += key in begun and again is not None
        if why == "kill" and kill is not None and not _overlaps(noisy, kill, kill + 2 * bound):
            facts.taken_back.append(back_at - kill)
            if again is not None:
                facts.begun_again.append(again.at - kill)


def _overlaps(deeds: Sequence[Deed], begin: float, end: float) -> bool:
    return any(deed.began < end and deed.ended + deed.facts.get("seconds", 0.0) > begin - 1 for deed in deeds)


def _judge_completed(facts: Facts, attempts, found, begun) -> None:  # type: ignore[no-untyped-def]
    """What is completed was entered and left, and nobody began it again afterwards."""
    left = {_key(entry) for entry in found if entry.kind == "out"}
    latest: dict[tuple[str, str, int, int], int] = {}
    for key in begun:
        latest[key[:4]] = max(latest.get(key[:4], 0), key[4])
    won = attempts.filter(outcome="completed", kind="body").exclude(stage="never")
    rows = won.values_list("run_id", "stage", "stage_run__map_index", "generation", "attempt")
    for run_id, stage, item, generation, number in rows.iterator():
        key = (str(run_id), stage, item, generation, number)
        if key not in begun or key not in left:
            facts.wrong.append(f"{key} is completed, and its body was not entered and left")
        if latest.get(key[:4], 0) > number:
            facts.wrong.append(f"{key} is completed, and its body began again")


def _time_restarts(facts: Facts, attempts, deeds: Sequence[Deed]) -> None:  # type: ignore[no-untyped-def]
    """How long after PostgreSQL was up again the first stage ended that had begun since."""
    for deed in deeds:
        if deed.act.kind == "pg-restart" and deed.was_done:
            up = deed.facts["up_at"]
            moment = datetime.fromtimestamp(up, tz=UTC)
            first = attempts.filter(started_at__gt=moment, outcome="completed").order_by("finished_at")
            at = first.values_list("finished_at", flat=True).first()
            if at is not None:
                facts.after_restart.append(at.timestamp() - up)
