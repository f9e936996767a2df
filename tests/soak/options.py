"""What to soak, for how long."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

FAULTS = ("kill_every", "flush_redis", "redis_down", "restart_postgres", "sigterm")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options. Where no fault is named, all are in."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Run workflows on real workers while these are killed and their servers fail. "
        "Faults come one after the other, under load; without any of the options marked * all of them do.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=5, help="how long workers are killed")
    add("--runs", type=int, default=500, help="created meanwhile; the same pace holds for the other faults")
    add("--processes", type=int, default=4, help="worker processes under one supervisor")
    add("--threads", type=int, default=8, help="of each of them")
    add("--backend", default="postgresql", choices=("postgresql", "mariadb", "sqlite"))
    add("--kill-every", type=float, metavar="S", help="* kill -9 a random worker process each S seconds")
    add("--flush-redis", action="store_true", help="* FLUSHALL under load, and while bells hang that nobody has heard")
    add("--redis-down", type=float, nargs="?", const=60.0, metavar="S", help="* stop Redis for S seconds")
    add("--restart-postgres", type=int, nargs="?", const=3, metavar="N", help="* kill PostgreSQL N times (its own one)")
    add("--sigterm", type=int, nargs="?", const=20, metavar="N", help="* restart a single worker N times by SIGTERM")
    add(
        "--together",
        action="store_true",
        help="go on killing workers during the other faults; times are not judged then",
    )
    add(
        "--wide",
        action="store_true",
        help="instead of the faults: maps over 10,000 items and 1,000 child runs, with and without kills",
    )
    add("--isolated", action="store_true", help="also runs with a stage in a process of its own")
    add("--keep", action="store_true", help="keep logs and journals, and say where they are")
    options = parser.parse_args(arguments)
    if options.wide:
        options.kill_every = options.kill_every or 2.0
        return options
    if not any(getattr(options, name) for name in FAULTS):
        options.kill_every, options.flush_redis, options.redis_down = 2.0, True, 60.0
        options.restart_postgres, options.sigterm = 3, 20
    if options.together:
        options.kill_every = options.kill_every or 8.0
    if options.backend != "postgresql":
        options.restart_postgres = None
    return options
