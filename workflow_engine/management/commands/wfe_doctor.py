"""``manage.py wfe_doctor``: is what stands in the tables as it should be?"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ReapStaleLeases, ReapStuckRuns
from workflow_engine.kernel.doctor import Finding, Report, examine
from workflow_engine.management.command import COMPLETED, FAILED, UNAVAILABLE, USAGE, EngineCommand
from workflow_engine.management.reading import whole_number

# Calls of each repair: none goes on for ever.
MOST_ROUNDS = 1_000


class Command(EngineCommand):
    help = "Look for runs and stages that are not as they should be, and say what would help. Only --fix changes any."
    exit_codes = {
        COMPLETED: "nothing is wrong, or there are warnings only",
        FAILED: "something is as it must never be (after --fix: still)",
        USAGE: "the arguments are wrong",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--fix", action="store_true", help="First do what a tick does: reap lost stages, move stuck runs on."
        )
        parser.add_argument("--limit", type=whole_number(1), default=100, metavar="N", help="Findings per code (100).")
        parser.add_argument(
            "--runs", type=whole_number(0), default=20_000, metavar="N", help="Newest runs to look at one by one."
        )

    def handle(self, *, fix: bool, as_json: bool, limit: int, runs: int, **options: Any) -> None:
        kernel = get_kernel()
        fixed = _repair(kernel) if fix else {}
        report = examine(kernel.ports, limit=limit, most_runs=runs)
        if as_json:
            self.say_json(_as_json(report, fixed))
        else:
            self._print(report, fixed)
        if report.violations:
            raise CommandError(_summary(report), returncode=FAILED)

    def _print(self, report: Report, fixed: dict[str, int]) -> None:
        for what, count in fixed.items():
            self.say(f"{what}: {count}")
        for finding in report.findings:
            self.say(f"{finding.severity} {finding.code}  {_place(finding)}")
            self.say(f"  {finding.text}")
            self.say(f"  {finding.fix}")
        for code in report.cut:
            self.say(f"There are more findings of {code} than are listed.")
        if not report.all_runs_seen:
            self.say(f"Only the newest {report.runs_seen} runs were looked at one by one.")
        if not report.violations:
            self.say(_summary(report))


def _repair(kernel: Kernel) -> dict[str, int]:
    """Do what is safe, whatever is wrong; return how much was done."""
    counts = {"released": 0, "failed": 0, "transitioned": 0}
    for _ in range(MOST_ROUNDS):
        leases = kernel.dispatch(ReapStaleLeases())
        counts["released"] += len(leases.released)
        counts["failed"] += len(leases.failed)
        if not leases.released and not leases.failed:
            break
    command = ReapStuckRuns()
    for _ in range(MOST_ROUNDS):
        stuck = kernel.dispatch(command)
        counts["transitioned"] += len(stuck.transitioned)
        counts["failed"] += len(stuck.failed)
        if stuck.place is None:
            break
        command = ReapStuckRuns(after=stuck.place)
    return counts


def _place(finding: Finding) -> str:
    return f"run {finding.run_id}" + (f" stage {finding.stage}" if finding.stage else "")


def _summary(report: Report) -> str:
    if not report.findings:
        return "Nothing is wrong."
    violations, warnings = len(report.violations), len(report.warnings)
    return f"{violations} violation{'s' * (violations != 1)}, {warnings} warning{'s' * (warnings != 1)}."


def _as_json(report: Report, fixed: dict[str, int]) -> dict[str, Any]:
    return {
        "findings": [finding.as_json() for finding in report.findings],
        "violations": len(report.violations),
        "warnings": len(report.warnings),
        "cut": list(report.cut),
        "runs_seen": report.runs_seen,
        "all_runs_seen": report.all_runs_seen,
        "fixed": fixed,
    }
