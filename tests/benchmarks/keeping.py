"""What becomes a figure of what an adapter tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.benchmarks.figures import Figures
from tests.benchmarks.peers.spec import STEPS
from tests.benchmarks.relay import Counts

Said = dict[str, Any]
SERVERS = ("cpu_postgres", "cpu_redis")


def flood(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    steps = said["runs"] * STEPS[workload]
    figures.add(f"{key}/runs_per_s", said["runs"] / said["seconds"])
    figures.add(f"{key}/steps_per_s", steps / said["seconds"])
    figures.add(f"{key}/cpu_workers_ms", 1000 * said["cpu_workers"] / steps)
    figures.add(f"{key}/cpu_servers_ms", 1000 * sum(said[name] for name in SERVERS) / steps)
    figures.add(f"{key}/rss_mb", said["rss_worker"])
    # Near 1: the client that creates runs is the bound, not the workers.
    figures.add(f"{key}/creating_share", said["creating"] / said["seconds"])


def alone(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    figures.add(f"{key}/alone_ms", *said["ms"])


def backlog(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    if said["runs"] and said["seconds"]:
        figures.add(f"{key}/backlog_runs_per_s", said["runs"] / said["seconds"])
        figures.add(f"{key}/backlog_steps_per_s", said["runs"] * STEPS[workload] / said["seconds"])


def count(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    """Keep the counts per step, and the commits per run too; our own looks are not the system's."""
    runs, steps, looks = said["runs"], said["runs"] * STEPS[workload], said["looks"]
    own = "redis_commands" if not counts["statements"] else "statements"
    for name in ("statements", "commits", "round_trips", "redis_commands", "redis_round_trips", "bytes_sent"):
        less = looks if name == own or (name == "round_trips" and own == "statements") else 0
        figures.add(f"{key}/{name}", (counts[name] - less) / steps)
    figures.add(f"{key}/commits_per_run", counts["commits"] / runs)


def create(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    figures.add(f"{key}/create_per_s", said["runs"] / said["seconds"])


def create_counts(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    for name in ("statements", "commits", "round_trips", "redis_commands"):
        figures.add(f"{key}/create_{name}", counts[name] / said["runs"])


def idle(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    """Keep what one idle worker process costs."""
    share = said["seconds"] * said["processes"]
    figures.add(f"{key}/idle_cpu_percent", 100 * said["cpu"] / share)
    figures.add(f"{key}/idle_statements_per_s", counts["statements"] / share)
    figures.add(f"{key}/idle_redis_per_s", counts["redis_commands"] / share)
    figures.add(f"{key}/idle_start_ms", *said["ms"])


def gaps(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    figures.add(f"{key}/gap_ms", *said["ms"])


def admin(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    figures.add(f"{key}/admin_ms", said["ms"])


def waits(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    figures.add(f"{key}/waits_s", said["seconds"])


def polls(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    """Keep how late checks were made, and what one costs."""
    figures.add(f"{key}/late_ms", *said["ms"])
    figures.add(f"{key}/statements", counts["statements"] / said["runs"])


def maps(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    """Keep how fast items are done, what that does to other runs, and to the workers' memory."""
    figures.add(f"{key}/items_per_s", said["items"] / said["seconds"])
    figures.add(f"{key}/before_ms", *said["before"])
    figures.add(f"{key}/during_ms", *said["during"])
    figures.add(f"{key}/grown_mb", *said["grown"])


def heard(figures: Figures, key: str, said: Said, counts: Counts, workload: str) -> None:
    """Keep how long after their time events came, and how many were delivered in a second of a flood."""
    figures.add(f"{key}/heard_ms", *said["ms"])
    figures.add(f"{key}/events_per_s", said["events"] / said["seconds"])
    figures.add(f"{key}/heard_runs_per_s", said["runs"] / said["seconds"])


KEEPERS: dict[str, Callable[[Figures, str, Said, Counts, str], None]] = {
    "flood": flood,
    "alone": alone,
    "backlog": backlog,
    "count": count,
    "create": create,
    "create-count": create_counts,
    "idle": idle,
    "gaps": gaps,
    "admin": admin,
    "waits": waits,
    "polls": polls,
    "map": maps,
    "events": heard,
}
