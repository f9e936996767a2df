"""What to measure, how often and how long."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.systems import ALL, SYSTEMS


@dataclass(frozen=True, kw_only=True)
class Options:
    """``seconds``: about how long each burst of runs takes."""

    quick: bool
    systems: tuple[str, ...]
    workloads: tuple[str, ...]
    rounds: int
    processes: tuple[int, ...]
    threads: int | None
    growth: tuple[int, ...]
    write_docs: bool
    seconds: float
    alone: int
    idle_seconds: float


def parse(arguments: Sequence[str]) -> Options:
    given = parser().parse_args(arguments)
    quick: bool = given.quick
    return Options(
        quick=quick,
        systems=given.systems,
        workloads=given.workloads or (ALL[:2] if quick else ALL),
        rounds=given.rounds or (1 if quick else 3),
        processes=given.processes or ((2,) if quick else (1, 2, 4)),
        threads=given.threads,
        growth=given.growth or (),
        write_docs=given.write_docs,
        seconds=1.2 if quick else 3.0,
        # Over all rounds the 99th percentile then has at least 200 runs below it.
        alone=30 if quick else max(70, -(-210 // (given.rounds or 3))),
        idle_seconds=5.0 if quick else 20.0,
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="one short round: about five minutes, rough figures")
    made.add_argument(
        "--systems", type=among(tuple(SYSTEMS)), default=tuple(SYSTEMS), metavar="A,B", help=", ".join(SYSTEMS)
    )
    made.add_argument("--workloads", type=among(ALL), metavar="A,B", help=", ".join(ALL))
    made.add_argument("--rounds", type=int, metavar="N", help="rounds over all systems (3; 1 with --quick)")
    made.add_argument("--processes", type=numbers, metavar="1,2,4", help="worker processes of ours, with chain5")
    made.add_argument("--threads", type=int, metavar="N", help="threads of each worker process of ours")
    made.add_argument(
        "--growth", type=numbers, nargs="?", const=(1, 10_000, 1_000_000), metavar="1,10000,...",
        help="also measure with so many finished runs in the tables (a million takes minutes to make)",
    )  # fmt: skip
    made.add_argument("--write-docs", action="store_true", help="write docs/explanation/performance.json and .svg")
    return made


def among(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return given

    return names


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
