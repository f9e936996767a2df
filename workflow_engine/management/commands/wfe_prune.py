"""``manage.py wfe_prune``: delete what is old, by the settings or by what the options say."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.pruner import Rule, rules
from workflow_engine.kernel.pruning import PRUNERS
from workflow_engine.management.command import COMPLETED, UNAVAILABLE, USAGE, EngineCommand, Refusal
from workflow_engine.management.reading import age, whole_number
from workflow_engine.statuses import FINISHED_RUN


@dataclass(slots=True)
class Made:
    """What has come of one kind; ``refusal`` says why one of those stays that could not be deleted."""

    deleted: int = 0
    kept: int = 0
    refusal: str = ""


class Command(EngineCommand):
    help = "Delete what is older than RETENTION says; with --what and --older-than: that, once."
    exit_codes = {
        COMPLETED: "deleted, or (with --dry-run) counted",
        USAGE: "the arguments are wrong",
        UNAVAILABLE: "the database refused to work; what was deleted stays deleted, try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--what", choices=list(PRUNERS), help="Only these.")
        parser.add_argument("--older-than", type=age, metavar="AGE", help="Of --what: 90s, 15m, 12h, 7d, 2w.")
        parser.add_argument(
            "--status", type=str.upper, choices=FINISHED_RUN, action="append", help="Of runs and events; several times."
        )
        parser.add_argument("--batch", type=whole_number(1), default=200, metavar="N", help="Rows of a page (200).")
        parser.add_argument("--dry-run", action="store_true", help="Count, and delete nothing.")

    def handle(self, *, what: str | None, batch: int, dry_run: bool, as_json: bool, **options: Any) -> None:
        older: timedelta | None = options["older_than"]
        if what is None and (older is not None or options["status"]):
            raise Refusal("--older-than and --status go with --what.", returncode=USAGE, code="USAGE")
        if what == "blobs" and older is None:
            older = next((rule.older_than for rule in rules() if rule.what == what), timedelta(days=1))
        chosen: Iterable[Rule] = rules() if older is None else [Rule(what or "", older)]
        if what is not None:
            chosen = [rule for rule in chosen if rule.what == what]
        if options["status"]:
            wanted = tuple(options["status"])
            chosen = [replace(rule, statuses=tuple(s for s in rule.statuses if s in wanted)) for rule in chosen]
        made = {name: Made() for name in ([what] if what else PRUNERS)}
        for rule in chosen:
            if rule.statuses:
                self._prune(rule, batch, made[rule.what], dry_run=dry_run, quiet=as_json)
        if as_json:
            kept = {name: {"count": one.kept, "one": one.refusal} for name, one in made.items() if one.kept}
            deleted = {name: one.deleted for name, one in made.items()}
            self.say_json({"dry_run": dry_run, "deleted": deleted, "kept": kept})
            return
        for name, one in made.items():
            self.say(f"{name}: {one.deleted:,} {'would be looked at' if dry_run else 'deleted'}")
            if one.kept:
                self.say(f"{name}: {one.kept:,} cannot be deleted, such as {one.refusal}")

    def _prune(self, rule: Rule, batch: int, made: Made, *, dry_run: bool, quiet: bool) -> None:
        command, pages = rule.command(most=batch, dry_run=dry_run), 0
        while True:
            result = get_kernel().dispatch(command)
            made.deleted, made.kept, pages = made.deleted + result.deleted, made.kept + result.kept, pages + 1
            made.refusal = made.refusal or result.refusal
            if result.place is None:
                return
            command = replace(command, after=result.place)
            if pages % 50 == 0 and not quiet:
                self.say(f"{rule.what}: {made.deleted:,} so far")
