"""``python -m tests.benchmarks [--quick] [--systems A,B] [--growth] [--write-docs]``: measure, print, write JSON."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.environment import ROOT
from tests.benchmarks.options import parse
from tests.benchmarks.plan import carry_out
from tests.benchmarks.report import text
from tests.benchmarks.results import OUTPUT, write
from tests.benchmarks.servers import Servers
from tests.benchmarks.session import Session


def main(arguments: Sequence[str]) -> int:
    """Return 0 if every case did its work; peers that could not be installed do not count as failures."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    say = progress()
    # SQLite's file belongs on the disk that the checkout is on: a temporary directory may be memory.
    with tempfile.TemporaryDirectory(dir=OUTPUT, prefix="scratch-") as scratch, Servers.found() as servers:
        for name, value in servers.facts().items():
            say(f"{name}: {value}")
        session = Session(servers, options, Path(scratch), say)
        carry_out(session)
        report = text(session.figures, ours=session.ours, missing=session.missing, failed=session.failed)
        paths = write(session, to_docs=options.write_docs)
        if servers.facts()["fsync"] != "on":
            report += (
                "\n\nThis PostgreSQL does not wait for the disk (fsync is off): the figures flatter every system on it."
            )
    out(f"\n{report}\n")
    out("Written: " + ", ".join(str(path.relative_to(ROOT)) for path in paths))
    return 1 if session.failed else 0


def progress() -> Callable[[str], None]:
    begin = time.monotonic()
    return lambda line: out(f"{time.monotonic() - begin:6.1f} s  {line}")


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
