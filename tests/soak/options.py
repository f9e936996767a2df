"""What to soak, for how long."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tests.soak.chaos.lanes import LANES
from tests.soak.chaos.plan import GROUPS, chosen

FAULTS = ("kill_every", "flush_redis", "redis_down", "restart_postgres", "sigterm")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options. Where none of one by one is named, it is chaos."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Run workflows on real workers while these are killed and their servers fail: by a plan of "
        "a seed, or (options marked *) one fault after the other.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--lane",
        default="full",
        choices=tuple(LANES),
        help="of chaos: ci takes 60 s and few faults, full 10 minutes, sinks 3 without any but a bad webhook",
    )
    add("--seed", type=int, help="of chaos: the same seed gives the same plan (default: a random one)")
    add(
        "--only",
        type=lambda text: text.split(","),
        metavar="A,B",
        help=f"of chaos, some: {', '.join(GROUPS)}, or an act",
    )
    add("--every", type=float, metavar="S", help="of chaos: the mean time between two faults")
    add("--pace", type=float, metavar="N", help="of chaos: runs created per second")
    add("--rounds", type=int, metavar="N", help="of chaos: so often; after each all must end, and is checked")
    add("--hours", type=float, metavar="H", help="of chaos: rounds of 10 minutes, with a fault each 30 s")
    add("--json", default="", metavar="FILE", help="write the figures there too")
    add("--minutes", type=float, help="of chaos: how long there are faults; *: how long workers are killed (5)")
    add("--all", action="store_true", help="* one by one, all of the following")
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
    options.chaos = not any(getattr(options, name) for name in (*FAULTS, "all", "wide", "together"))
    if options.chaos:
        try:
            wanted = options.only or LANES[options.lane].acts
            options.acts = () if wanted is None else chosen(wanted)
        except ValueError as error:
            parser.error(str(error))
        return options
    options.minutes = options.minutes or 5.0
    options.seed = 1 if options.seed is None else options.seed
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
