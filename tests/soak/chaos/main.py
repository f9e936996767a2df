"""The way into chaos: its servers, its settings, its lane."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.soak.chaos.lanes import LANES, Lane
from tests.soak.chaos.servers import servers
from tests.soak.report import write

ROUND_SECONDS = 600.0
# Between two faults where it goes on for hours.
SELDOM_SECONDS = 30.0


def main(options: argparse.Namespace) -> int:
    """Run a lane; return 0 if all held, 1 if not, 2 if too little happened to say so."""
    lane = lane_of(options)
    seed = random.SystemRandom().randrange(10**8) if options.seed is None else options.seed
    write(f"seed {seed}, lane {lane.name}: {', '.join(options.acts) or 'no faults'}")
    scratch = Path(tempfile.mkdtemp(prefix="wfe-chaos-"))
    (scratch / "journal").mkdir()
    _keep_bytecode(scratch / "bytecode")
    try:
        with servers() as found:
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "tests.soak.settings",
                "WFE_SOAK_BACKEND": "postgresql",
                "WFE_SOAK_DATABASE": found.postgres.url,
                "WFE_SOAK_REDIS": found.redis.url,
                "WFE_SOAK_SCRATCH": str(scratch),
                "WFE_SOAK_CHAOS": json.dumps(lane.settings),
            }
            import django
            from django.core.management import call_command
            from django.db import connections

            django.setup()
            call_command("migrate", verbosity=0)
            from tests.soak.chaos.run import Chaos, save

            try:
                figures = Chaos(lane, options.acts, seed, found).run()
            finally:
                connections.close_all()
        write("")
        for line in figures.lines():
            write(line)
        save(figures, options.json)
        return figures.code
    finally:
        if options.keep:
            write(f"Logs and journals: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _keep_bytecode(directory: Path) -> None:
    """Let processes that are started again and again share what they compile, where they were told to write none."""
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(directory)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(directory)


def lane_of(options: argparse.Namespace) -> Lane:
    """Return the lane with what the command line says otherwise."""
    lane = LANES[options.lane]
    changes = {"seconds": options.minutes and options.minutes * 60, "every": options.every}
    changes |= {"runs_per_second": options.pace}
    changes |= {"rounds": options.rounds}
    if options.hours:
        rounds = max(1, round(options.hours * 3600 / ROUND_SECONDS))
        changes |= {"rounds": rounds, "seconds": options.hours * 3600 / rounds}
        changes |= {"every": options.every or SELDOM_SECONDS}
    return replace(lane, **{name: value for name, value in changes.items() if value})  # type: ignore[arg-type]
