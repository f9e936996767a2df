"""The goals, and whether they are reached: each is a name, a bound, and how its value is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.figures import Figures, best, ratio

Find = Callable[[Figures, str], float | None]
DBOS = ("dbos/1", "dbos-queue/2")


@dataclass(frozen=True)
class Goal:
    """``bound`` is the least value if ``at_least``, else the most. ``find`` gets the figures and our variant."""

    what: str
    bound: float
    unit: str
    at_least: bool
    find: Find

    def reached(self, figures: Figures, ours: str) -> bool | None:
        """Return None if the value was not measured."""
        value = self.find(figures, ours)
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


def least(what: str, bound: float, unit: str, find: Find) -> Goal:
    return Goal(what, bound, unit, True, find)


def most(what: str, bound: float, unit: str, find: Find) -> Goal:
    return Goal(what, bound, unit, False, find)


def ours2(name: str) -> Find:
    """Find a median of our two worker processes."""
    return lambda figures, ours: figures.median(f"{ours}/2/{name}")


def share(name: str, share: float) -> Find:
    return lambda figures, ours: figures.percentile(f"{ours}/2/{name}", share)


def of(system: str, name: str) -> Find:
    return lambda figures, ours: figures.median(f"{system}/{name}")


def times(name: str, *others: str) -> Find:
    """Find how many times the best of ``others`` we reach."""
    return lambda figures, ours: ratio(figures.median(f"{ours}/2/{name}"), best(*map(figures.median, others)))


def start_ms(system: str) -> Find:
    return lambda figures, ours: figures.percentile(f"{system}/2/gaps/idle_start_ms", 0.5)


def grown(name: str, *, slower_is: Callable[[float | None, float | None], float | None]) -> Find:
    """Find how many times slower a million old runs make it."""
    return lambda figures, ours: slower_is(figures.median(f"growth/1000000/{name}"), figures.median(f"growth/1/{name}"))


def inverse(above: float | None, below: float | None) -> float | None:
    return ratio(below, above)


def growing(figures: Figures, ours: str) -> float | None:
    """Find how many MB the largest worker process took between the 5,000th and the 10,000th run."""
    first, *later = figures.values.get("memory/rss_mb", [])[:2] or [0.0]
    return later[0] - first if later else None


def slowed(name: str, share: float) -> Find:
    """Find how many times longer other runs take meanwhile than before."""

    def find(figures: Figures, ours: str) -> float | None:
        during, before = (figures.percentile(f"{ours}/2/{name}/{when}_ms", share) for when in ("during", "before"))
        return ratio(during, before)

    return find


RUNS = "chain5/runs_per_s"
GOALS = (
    least("chain of 5, many in flight", 1500, "stages/s", ours2("chain5/steps_per_s")),
    least("  compared with DBOS's best", 3, "times", times(RUNS, *(f"{name}/{RUNS}" for name in DBOS))),
    least("  compared with Celery's chain", 2, "times", times(RUNS, f"celery/2/{RUNS}")),
    least("  share of the hand-written floor", 0.7, "times", times("chain5/steps_per_s", "limits/floor5/2/per_s")),
    least("the same on SQLite, one process", 1000, "stages/s", of("ours-sqlite/1", "chain5/steps_per_s")),
    least("group of 10 and a join", 100, "groups/s", ours2("group10/runs_per_s")),
    least("  compared with Celery's chord", 1.8, "times", times("group10/runs_per_s", "celery/2/group10/runs_per_s")),
    most("one run of 5 alone, p50", 10, "ms", share("chain5/alone_ms", 0.5)),
    most("one run of 5 alone, p99", 25, "ms", share("chain5/alone_ms", 0.99)),
    most("end of a stage to start of the next, p50", 1.5, "ms", share("gaps/gap_ms", 0.5)),
    most("  through the queue, p50", 5, "ms", share("gaps-queued/gap_ms", 0.5)),
    most("commits, a run of 5 one-stage groups", 7, "", ours2("chain5/commits_per_run")),
    most("statements per stage", 5, "", ours2("chain5/statements")),
    most("Redis commands per stage through the queue", 10, "", ours2("gaps-queued/redis_commands")),
    most("  round trips", 4, "", ours2("gaps-queued/redis_round_trips")),
    least("create_run, one process", 800, "calls/s", ours2("chain5/create_per_s")),
    most("  statements", 4, "", ours2("chain5/create_statements")),
    most("  commits", 1, "", ours2("chain5/create_commits")),
    most("idle worker, RQ: CPU", 1, "%", of("ours/2", "gaps/idle_cpu_percent")),
    most("  statements", 1, "/s", of("ours/2", "gaps/idle_statements_per_s")),
    most("  new work starts within, p50", 20, "ms", start_ms("ours")),
    most("idle worker, database transport: CPU", 2, "%", of("ours-db/2", "gaps/idle_cpu_percent")),
    most("  statements", 4, "/s", of("ours-db/2", "gaps/idle_statements_per_s")),
    most("  new work starts within, p50", 300, "ms", start_ms("ours-db")),
    most("1,000 async stages waiting 1 s, one process", 3, "s", lambda f, ours: f.median(f"{ours}/1/waits/waits_s")),
    most("200 completion checks a second: late, p99", 1000, "ms", share("polls/late_ms", 0.99)),
    least("map over 10,000 items", 800, "items/s", ours2("map/items_per_s")),
    most("  other runs meanwhile, p95", 2, "times slower", slowed("map", 0.95)),
    most(
        "  memory of a worker meanwhile", 25, "MB", lambda f, ours: max(f.values.get(f"{ours}/2/map/grown_mb", [0.0]))
    ),
    most("event to its plugin, p95", 50, "ms", share("heard/heard_ms", 0.95)),
    most("memory of a worker, run 5,000 to 10,000", 5, "MB", growing),
    most("1,000,000 finished runs: throughput", 1.2, "times slower", grown("runs_per_s", slower_is=inverse)),
    most("  one run alone", 1.2, "times slower", grown("alone_ms", slower_is=ratio)),
    most("  the admin's list", 1.2, "times slower", grown("admin_ms", slower_is=ratio)),
)
