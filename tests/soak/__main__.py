"""``python -m tests.soak``: see ``--help``. Exits with 1 if anything was lost, doubled, late or wrong."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.soak.options import parse
from tests.soak.report import Report, write
from tests.soak.servers import Servers, servers


def main() -> int:
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.chaos:
        return chaos(options)
    scratch = Path(tempfile.mkdtemp(prefix="wfe-soak-"))
    (scratch / "journal").mkdir()
    try:
        with servers(options) as found:
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "tests.soak.settings",
                "WFE_SOAK_BACKEND": options.backend,
                "WFE_SOAK_DATABASE": found.database,
                "WFE_SOAK_REDIS": found.redis.url,
                "WFE_SOAK_SCRATCH": str(scratch),
                # Where bodies kill their worker it is they who are counted; else it is us.
                "WFE_SOAK_MAX_CRASHES": "3" if options.wide else "1000",
            }
            return soak(options, found)
    finally:
        if options.keep:
            write(f"Logs and journals: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def chaos(options: argparse.Namespace) -> int:
    from tests.soak.chaos.main import main as go

    return go(options)


def soak(options: argparse.Namespace, found: Servers) -> int:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)

    from tests.soak.load import Load
    from tests.soak.verdict import check_everything
    from tests.soak.workflows import MIX

    report = Report(lenient=options.together)
    load = Load((*MIX, "apart") if options.isolated else MIX, options.runs / (options.minutes * 60))
    try:
        if options.wide:
            _go_wide(options, found, report)
        else:
            _bring_about(options, found, report, load)
        check_everything(report, load)
        return report.conclude(options.json)
    finally:
        connections.close_all()


def _go_wide(options: argparse.Namespace, found: Servers, report: Report) -> None:
    """Maps and children on two workers, first undisturbed, then with kills."""
    from tests.soak import faults, watching, wide
    from tests.soak.workers import supervised

    with supervised(options.processes, options.threads) as workers:
        watching.wait(lambda: len(workers.said("started")) >= options.processes, 60)
        wide.map_items(report, workers, deadly=False)
        wide.start_children(report, cancel=False)
        wide.start_children(report, cancel=True)
        wide.map_items(report, workers, deadly=True)
        _end(report, workers)
    os.environ["WFE_SOAK_MAX_CRASHES"] = "1000"
    with supervised(options.processes, options.threads) as workers:
        watching.wait(lambda: len(workers.said("started")) >= options.processes, 60)
        with faults.killing(workers, options.kill_every) as killed:
            report.say(f"from now on a worker process is killed every {options.kill_every:g} s")
            wide.map_items(report, workers, deadly=False)
            wide.start_children(report, cancel=False)
            wide.start_children(report, cancel=True)
        report.figure("workers killed", str(len(killed)))
        _end(report, workers)
    wide.check_log(report, found.postgres)


def _bring_about(options: argparse.Namespace, found: Servers, report: Report, load) -> None:  # type: ignore[no-untyped-def]
    from tests.soak import faults, watching
    from tests.soak.workers import supervised

    with supervised(options.processes, options.threads) as workers:
        watching.wait(lambda: len(workers.said("started")) >= options.processes, 60)
        report.say(f"{options.processes} workers have started")
        if options.kill_every:
            faults.kill_workers(report, workers, load, every=options.kill_every, seconds=options.minutes * 60)
        with faults.killing(workers, options.kill_every) if options.together else nullcontext():
            if options.flush_redis:
                faults.flush_redis(report, workers, found.redis, load, options.processes)
            if options.redis_down:
                faults.stop_redis(report, found.redis, load, seconds=options.redis_down, processes=options.processes)
            if options.restart_postgres and found.postgres is not None:
                faults.restart_postgres(report, found.postgres, load, times=options.restart_postgres)
        _end(report, workers)
    if options.sigterm:
        faults.restart_worker(report, load, times=options.sigterm, threads=options.threads, seed=options.seed)
        with supervised(options.processes, options.threads) as workers:
            # Every run may have ended by now, and whoever has not begun yet cannot drain.
            watching.wait(lambda: len(workers.said("started")) >= options.processes, 60)
            _end(report, workers)


def _end(report: Report, workers) -> None:  # type: ignore[no-untyped-def]
    """Wait until every run has ended, and stop the workers."""
    from tests.soak import watching

    took = watching.wait(lambda: watching.unfinished() == 0, 180)
    report.check(took is not None, f"{watching.unfinished()} runs have not ended: stages {watching.states()}")
    code = workers.stop()
    report.check(code == 0, f"the supervisor exited with {code}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
