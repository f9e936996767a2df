"""``manage.py wfe_doctor``: is what stands in the tables as it should be?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from itertools import groupby
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.doctor import CODES, MOST_RUNS, Finding, Report, examine
from workflow_engine.management.command import COMPLETED, FAILED, UNAVAILABLE, USAGE, EngineCommand
from workflow_engine.management.reading import whole_number
from workflow_engine.management.repairs import DONE, repair

SCHEMA = 1
# Runs after which --all says how far it has come.
A_WHILE = 20_000


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
        many = parser.add_mutually_exclusive_group()
        many.add_argument(
            "--runs",
            type=whole_number(0),
            default=MOST_RUNS,
            metavar="N",
            help="Runs to look at one by one: open ones, and the newest.",
        )
        many.add_argument("--all", action="store_true", dest="all_runs", help="Look at every run, however long ago.")
        parser.add_argument(
            "--blobs", action="store_true", help="Read what these runs have in the blob store, and compare it."
        )

    def handle(
        self, *, fix: bool, as_json: bool, limit: int, runs: int, all_runs: bool, blobs: bool, **options: Any
    ) -> None:
        kernel = get_kernel()
        fixed = repair(kernel) if fix else {}
        report = examine(
            kernel.ports,
            limit=limit,
            most_runs=None if all_runs else runs,
            blobs=blobs,
            progress=self._say_progress if all_runs else None,
        )
        if as_json:
            self.say_json(_as_json(report, fixed))
        else:
            self._print(report, fixed)
        if report.violations:
            raise CommandError(_summary(report), returncode=FAILED)

    def _say_progress(self, seen: int) -> None:
        if seen % A_WHILE == 0:
            self.stderr.write(f"{seen:,} runs looked at")

    def _print(self, report: Report, fixed: dict[str, int]) -> None:
        for what, count in fixed.items():
            self.say(f"{what}: {count} {DONE[what]}")
        for code, found in groupby(report.findings, key=lambda one: one.code):
            self._print_code(code, list(found), is_cut=code in report.cut)
        if not report.all_runs_seen:
            self.say(f"Only {report.runs_seen} runs were looked at one by one, the newest and those that are open.")
        if fixed and report.findings:
            self.say(f"--fix has left the above: {_counted(report)}.")
        if not report.violations:
            self.say(_summary(report))

    def _print_code(self, code: str, found: list[Finding], *, is_cut: bool) -> None:
        known = CODES[code]
        self.say(f"{known.severity} {code} ({len(found)}{' or more' if is_cut else ''})")
        self.say(f"  Means: {known.means}")
        self.say(f"  Causes: {known.causes}")
        for fix, of_it in groupby(found, key=lambda one: one.fix):
            self.say(f"  Do: {fix}")
            for one in of_it:
                self.say(f"    {one.where}: {one.text}" if one.where else f"    {one.text}")
        if is_cut:
            self.say(f"  There are more findings of {code} than are listed.")


def _counted(report: Report) -> str:
    counts = Counter(one.code for one in report.findings)
    return ", ".join(f"{count} {code}" for code, count in counts.items())


def _summary(report: Report) -> str:
    if not report.findings:
        return "Nothing is wrong."
    violations, warnings = len(report.violations), len(report.warnings)
    return f"{violations} violation{'s' * (violations != 1)}, {warnings} warning{'s' * (warnings != 1)}."


def _as_json(report: Report, fixed: dict[str, int]) -> dict[str, Any]:
    codes = dict.fromkeys(finding.code for finding in report.findings)
    return {
        "schema": SCHEMA,
        "findings": [finding.as_json() for finding in report.findings],
        "codes": {code: CODES[code].as_json() for code in codes},
        "violations": len(report.violations),
        "warnings": len(report.warnings),
        "cut": list(report.cut),
        "runs_seen": report.runs_seen,
        "all_runs_seen": report.all_runs_seen,
        "fixed": fixed,
    }
