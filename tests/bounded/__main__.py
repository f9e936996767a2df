"""``python -m tests.bounded``: see ``--help``. Exits with 1 if a table has grown from the first half to the second."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
# After so many minutes, again and again, a worker process is killed and another one takes its place.
KILL_EVERY = 20


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bounded",
        description="Create runs at a constant pace on two workers that delete what is old; count rows each minute.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--hours", type=float, default=2.0, help="how long; the two halves are compared")
    add("--runs", type=float, default=1.0, help="created per second")
    add("--keep-minutes", type=float, default=12.0, help="how long runs are kept; events and logs half as long")
    add("--day", type=float, default=20.0, help="seconds after which a worker's pass over what is old begins again")
    add("--backend", default="postgresql", choices=("postgresql", "mariadb", "sqlite"))
    add("--output", type=Path, default=Path("var/bounded.jsonl"), help="a line of JSON per minute")
    return parser.parse_args()


def main() -> int:
    options = parse()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="wfe-bounded-", ignore_cleanup_errors=True))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.bounded.settings",
            "WFE_BOUNDED_BACKEND": options.backend,
            "WFE_BOUNDED_DATABASE": _database(stack, options.backend),
            "WFE_BOUNDED_MINUTES": str(options.keep_minutes),
            "WFE_BOUNDED_DAY_SECONDS": str(options.day),
            "WFE_BOUNDED_SCRATCH": scratch,
        }
        return bounded(options, Path(scratch))


def _database(stack: ExitStack, backend: str) -> str:
    if backend == "sqlite":
        return ""
    from tests.soak.servers import create_database

    return create_database(stack, backend, "wfe_bounded")


def bounded(options: argparse.Namespace, scratch: Path) -> int:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from tests.bounded.counting import Sample, grown, sample, table, vacuum
    from tests.bounded.load import Load

    samples: list[Sample] = []
    workers, load, began = [_worker(scratch), _worker(scratch)], Load(options.runs), time.monotonic()
    load.start()
    try:
        for minute in range(1, round(options.hours * 60) + 1):
            time.sleep(max(0.0, began + minute * 60 - time.monotonic()))
            pids = [os.getpid(), *(worker.pid for worker in workers)]
            samples.append(sample((time.monotonic() - began) / 60, load.created, pids))
            with options.output.open("a") as file:
                file.write(json.dumps(samples[-1]) + "\n")
            vacuum()
            if minute % KILL_EVERY == 0:
                # With whatever it is doing, deleting too; and its row is one more that is to go.
                workers[0].kill()
                workers[0].wait()
                workers = [workers[1], _worker(scratch)]
    finally:
        load.stop()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
        _close()
    half = options.hours * 30
    failures = grown(samples, half)
    log = (scratch / "worker.log").read_text(errors="replace").splitlines()
    bad = [line for line in log if " ERROR " in line or "loop failing" in line]
    said = f"created {load.created:,}, refused {load.refused}; errors and loops that failed: {len(bad)}"
    sys.stdout.write("\n".join([table(samples, half), said, *bad[:20], *failures, ""]))
    return 1 if failures else 0


def _close() -> None:
    from django.db import connections

    connections.close_all()


def _worker(scratch: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bounded.worker"]
    with (scratch / "worker.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


if __name__ == "__main__":
    sys.exit(main())
