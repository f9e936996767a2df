"""Run the whole crash matrix and print it: ``python -m tests.faults [--backend NAME]...``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

FILES = "tests/faults/test_crash_matrix_of_plans.py"
BACKENDS = ("--backend", "sqlite", "--backend", "postgresql")
Told = dict[str, str]


def main(arguments: list[str]) -> int:
    """Return the exit status of the tests."""
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory) / "matrix"
        notes.touch()
        command = [sys.executable, "-m", "tests.backends", *(arguments or BACKENDS), FILES, "-q"]
        environment = {**os.environ, "WFE_FULL_MATRIX": "1", "WFE_TEST_MATRIX": str(notes)}
        status = subprocess.run(command, env=environment, check=False).returncode
        told = [json.loads(line) for line in notes.read_text().splitlines()]
    sys.stdout.write("\n" + "\n".join(table(told)) + "\n")
    return status


def table(told: Sequence[Told]) -> list[str]:
    """Return Markdown: per point and plan the passes at which a worker was killed, and how many runs ended right."""
    begun: dict[tuple[str, str], set[str]] = defaultdict(set)
    ended: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for one in told:
        where = one["point"], one["plan"]
        begun[where].add(one["hit"])
        if one["what"] == "ended":
            ended[(*where, one["hit"])].add(one["backend"])
    backends = list(dict.fromkeys(one["backend"] for one in told))
    plans = list(dict.fromkeys(one["plan"] for one in told))
    places = {one["point"]: int(one["place"]) for one in told}
    lines = [f"| Point | {' | '.join(plans)} |", "|---" * (len(plans) + 1) + "|"]
    for point in sorted(places, key=places.__getitem__):
        cells = []
        for plan in plans:
            hits = sorted(begun[point, plan])
            wrong = {hit for hit in hits if ended[point, plan, hit] != set(backends)}
            cells.append(", ".join(f"**{hit}!**" if hit in wrong else hit for hit in hits))
        lines.append(f"| `{point}` | {' | '.join(cells)} |")
    lines.append("")
    for backend in backends:
        mine = [one["what"] for one in told if one["backend"] == backend]
        lines.append(f"{backend}: {mine.count('ended')} of {mine.count('begun')} runs ended right")
    return lines


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
