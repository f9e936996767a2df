"""``make simulate``: many schedules and their figures; ``--mutants``: which defects they find."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .setting_up import set_up

REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Return the seeds that were found to be wrong once."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many (with --mutants: of each, at most)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--mutants", action="store_true", help="break the engine on purpose, and print what was found")
    parser.add_argument("--only", nargs="*", default=[], help="names of mutants; a+b: both at once")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)

    set_up()
    return _score(options) if options.mutants or options.only else _play(options)


def _play(options: Any) -> int:
    from workflow_engine.testing.simulation import shrink
    from workflow_engine.testing.simulation.settings import KINDS

    from .many import Figures, play, play_in

    began, figures = time.monotonic(), Figures()
    figures.merge(play(regressions()))
    for part in play_in(options.jobs, options.seed, options.schedules):
        figures.merge(part)
        spent = time.monotonic() - began
        print(f"\r{figures.schedules:,} schedules, {figures.schedules / spent:.1f}/s", end="", file=sys.stderr)
    spent = time.monotonic() - began
    print(file=sys.stderr)
    missing = [kind for kind in KINDS if not figures.faults[kind]]
    print(
        f"seed {options.seed}  schedules {figures.schedules:,}  {figures.schedules / spent:.1f}/s  jobs {options.jobs}"
    )
    print(f"steps {figures.steps:,}  virtual hours {figures.seconds / 3600:.1f}  wall seconds {spent:.0f}")
    print("runs    " + "  ".join(f"{status} {count:,}" for status, count in sorted(figures.runs.items())))
    print("faults  " + "  ".join(f"{kind} {figures.faults[kind]:,}" for kind in KINDS))
    print(f"violations in {len(figures.violations)} schedules")
    for seed, violations in figures.violations.items():
        print(f"seed {seed}: " + "; ".join(violations[:3]))
    for seed in list(figures.violations)[:3]:
        print(shrink(int(seed)).story)
    if missing:
        print(f"NOT PERFORMED: never seen: {', '.join(missing)}")
    if options.json:
        options.json.write_text(json.dumps(_as_json(figures, spent), indent=1))
    return 1 if figures.violations or missing else 0


def _as_json(figures: Any, spent: float) -> dict[str, Any]:
    return {
        "schedules": figures.schedules,
        "wall_seconds": round(spent, 1),
        "steps": figures.steps,
        "runs": dict(figures.runs),
        "faults": dict(figures.faults),
        "violations": {seed: list(found) for seed, found in figures.violations.items()},
    }


def _score(options: Any) -> int:
    from .mutants import ALONE, MUTANTS, TOGETHER
    from .scores import score_in, table

    seeds = range(options.seed, options.seed + options.schedules)
    parts = {"alone": ALONE, "together with what covers them": TOGETHER}
    if options.only:
        parts = {"chosen": [tuple(MUTANTS[name] for name in names.split("+")) for names in options.only]}
    missed = 0
    for title, mutants in parts.items():
        scores = []
        for one in score_in(options.jobs, [[each.name for each in some] for some in mutants], seeds):
            scores.append(one)
            print(f"{one.name}: {one.first} ({one.found} of {one.played}) {one.seen_as[:120]}", file=sys.stderr)
        found = sum(one.first is not None for one in scores)
        missed += len(scores) - found
        print(f"\n{title}: {found} of {len(scores)} found\n\n{table(scores)}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
