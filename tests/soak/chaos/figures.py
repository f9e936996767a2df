"""What a lane has found: the table that is printed, and the same as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.soak.chaos.lanes import Lane
from tests.soak.chaos.sampling import Samples

# What the table shows one by one, also where there are none.
SHOWN = ("lost", "non-terminal", "double completion", "double terminal event", "wrong output")
MOST_TEXTS = 20
# Subscribers whom nothing is done to in a lane without faults.
HEALTHY = ("the plugin", "the webhook steps")


@dataclass
class Figures:
    """Sums over all rounds. ``problems``: check -> what does not hold; the first of them in words in ``texts``."""

    lane: Lane
    seed: int
    acts: tuple[str, ...]
    seconds: float = 0.0
    runs: int = 0
    executions: int = 0
    re_executed: int = 0
    unlucky: int = 0
    late_bodies: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lost_by: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    taken_back: list[float] = field(default_factory=list)
    begun_again: list[float] = field(default_factory=list)
    after_restart: list[float] = field(default_factory=list)
    quiet_after: list[float] = field(default_factory=list)
    drains: list[float] = field(default_factory=list)
    # Subscriber -> after how many seconds it has heard of each event.
    lags: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    complaints: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    samples: Samples = field(default_factory=Samples)
    missing: list[str] = field(default_factory=list)
    cpu: float = 0.0
    # What must have been seen.
    wanted: list[str] = field(default_factory=list)

    def problem(self, name: str, texts: Sequence[str]) -> None:
        self.problems[name] += len(texts)
        room = MOST_TEXTS - sum(text.startswith(f"{name}: ") for text in self.texts)
        self.texts += [f"{name}: {text}" for text in texts[: max(0, room)]]

    @property
    def verdict(self) -> str:
        if any(self.problems.values()):
            return "FAIL"
        return "NOT PERFORMED" if self.missing else "PASS"

    @property
    def code(self) -> int:
        return {"PASS": 0, "FAIL": 1, "NOT PERFORMED": 2}[self.verdict]

    @property
    def allowed_again(self) -> int:
        """How many bodies may have begun again: those that a fault hit."""
        return sum(self.hits.values())

    def missed_goals(self) -> list[str]:
        """Name the times and sizes that are worse than wanted; on a machine that is busy otherwise they say little."""
        bound, found = self.lane.taken_back_within, []
        late = [value for value in self.taken_back if value > bound]
        if late:
            found.append(f"{len(late)} of {len(self.taken_back)} stages were taken back later than {bound:g} s")
        if self.lost_by["unexplained"] or self.lost_by["silence"]:
            count = self.lost_by["unexplained"] + self.lost_by["silence"]
            found.append(f"{count} attempts were lost by workers to whom nothing was done")
        if self.after_restart and max(self.after_restart) > 5:
            found.append(f"{max(self.after_restart):.1f} s after PostgreSQL was back nothing had ended")
        most = self.lane.settings["GRACE_SECONDS"] + 2
        if self.drains and max(self.drains) > most:
            found.append(f"a drain took {max(self.drains):.1f} s, wanted {most:g} s")
        if self.lane.acts is None:
            healthy = {who: quantiles(lags)["p99"] for who, lags in self.lags.items() if who in HEALTHY and lags}
            found += [f"{who} was told after {late} s (p99)" for who, late in healthy.items() if late > 2]
        found += [f"{name} grew by {slope:.1f} MB/h" for name, (_, slope) in self.samples.slopes.items() if slope > 1]
        return found

    def lines(self) -> list[str]:
        lane, counts, samples = self.lane, self.counts, self.samples
        faults = "  ".join(f"{name} {counts[name]}" for name in self.acts)
        workers = lane.supervised + lane.single
        shown = "  ".join(f"{name} {self.problems[name]}" for name in SHOWN)
        others = sum(count for name, count in self.problems.items() if name not in SHOWN)
        lost = "  ".join(f"{why} {count}" for why, count in sorted(self.lost_by.items())) or "none"
        slopes = [slope for _, slope in samples.slopes.values()]
        slope = f"  slope of RSS at most {max(slopes):.1f} MB/h" if slopes else ""
        return [
            f"seed {self.seed}  lane {lane.name}  {self.seconds:.0f} s of faults  {self.runs:,} runs  "
            f"{self.executions:,} executions  {workers} workers  {lane.orchestrators} orchestrators",
            f"faults     {faults}",
            f"           bodies that were under way in a killed process {counts['kills during a body']}",
            f"result     {shown}  other {others}",
            f"ended      {_words(self.statuses)}  unlucky {self.unlucky}  quiet after {_spread(self.quiet_after)}",
            f"work       re-executed {self.re_executed} (<= {self.allowed_again} bodies hit)  "
            f"late bodies {self.late_bodies}  refused {counts['results refused by the database']}  "
            f"dropped {counts['results dropped by their worker']}  "
            f"transactions repeated {counts['transactions repeated']}",
            f"lost       {lost}",
            f"recover    taken back {_spread(self.taken_back)} (bound {lane.taken_back_within:g} s)  "
            f"begun again {_spread(self.begun_again)}",
            f"           first end after a PostgreSQL restart {_spread(self.after_restart)}  "
            f"drains {_spread(self.drains)}",
            *(f"told       {who} {_spread(lags)}" for who, lags in self.lags.items()),
            f"machine    busy {100 * samples.machine_busy:.0f} % (others too)  ours {self.cpu:.0f} % of it  "
            f"peak RSS {max(samples.peaks.values(), default=0):.0f} MB{slope}  "
            f"oldest transaction {samples.oldest_transaction:.1f} s",
            *(f"missed     {text}" for text in self.missed_goals()),
            *(f"not seen   {name}" for name in self.missing),
            *(f"WRONG      {text}" for text in self.texts),
            f"sometimes  {sum(1 for name in self.wanted if counts[name])}/{len(self.wanted)} seen      {self.verdict}",
        ]

    def as_json(self) -> dict[str, Any]:
        lane = self.lane
        return {
            "seed": self.seed, "lane": lane.name, "verdict": self.verdict, "acts": self.acts,
            "seconds": round(self.seconds, 1), "every": lane.every, "runs_per_second": lane.runs_per_second,
            "workers": lane.supervised + lane.single, "orchestrators": lane.orchestrators, "settings": lane.settings,
            "runs": self.runs, "executions": self.executions, "statuses": dict(self.statuses),
            "problems": {**dict.fromkeys(SHOWN, 0), **self.problems}, "texts": self.texts, "unlucky": self.unlucky,
            "re_executed": self.re_executed, "allowed_again": self.allowed_again, "late_bodies": self.late_bodies,
            "lost_by": dict(self.lost_by), "seen": dict(self.counts), "not_seen": self.missing,
            "taken_back": quantiles(self.taken_back), "taken_back_bound": lane.taken_back_within,
            "begun_again": quantiles(self.begun_again), "after_pg_restart": quantiles(self.after_restart),
            "drains": quantiles(self.drains), "quiet_after": quantiles(self.quiet_after),
            "told_after": {who: quantiles(lags) for who, lags in self.lags.items()},
            "missed_goals": self.missed_goals(), "ends": dict(self.ends), "complaints": dict(self.complaints),
            "machine_busy": round(self.samples.machine_busy, 3), "cpu_seconds": round(self.samples.cpu_seconds, 1),
            "peak_rss_mb": {name: round(size, 1) for name, size in self.samples.peaks.items()},
            # Of the process of that name that lived longest: seconds, and its growth.
            "rss_mb_per_hour": {name: [round(of), round(mb, 2)] for name, (of, mb) in self.samples.slopes.items()},
            "oldest_transaction": round(self.samples.oldest_transaction, 2),
        }  # fmt: skip


def quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    half, most = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return {"count": len(ordered), "p50": round(half, 2), "p99": round(most, 2), "max": round(ordered[-1], 2)}


def _spread(values: Sequence[float]) -> str:
    found = quantiles(values)
    return "never" if not values else f"p50 {found['p50']} p99 {found['p99']} max {found['max']} s (of {len(values)})"


def _words(counts: Counter[str]) -> str:
    return "  ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
