"""``manage.py wfe_bulk``: change many runs in the background, see how far that is, stop it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.management.base import CommandError

from workflow_engine.bootstrap import get_kernel
from workflow_engine.bulk import cancel_bulk, find_operation
from workflow_engine.management.command import (
    COMPLETED,
    FAILED,
    NOT_FOUND,
    UNAVAILABLE,
    USAGE,
    EngineCommand,
    Refusal,
)
from workflow_engine.management.printing import facts, moment, table
from workflow_engine.management.reading import read_json, whole_number
from workflow_engine.management.selecting import add_selection, as_data, begin, is_selection, read_selection
from workflow_engine.models import BulkOperation
from workflow_engine.statuses import BulkKind, TargetOutcome

MOST_FAILURES = 20


class Command(EngineCommand):
    help = "Show a bulk operation; without ID: the latest; with --action: begin one, on the runs that fit."
    exit_codes = {
        COMPLETED: "shown, begun, or (with --stop) stopped",
        FAILED: "not begun, as the answer was not yes; or (with --stop) it had already ended",
        USAGE: "the arguments are wrong, or --yes is missing where nobody can be asked",
        NOT_FOUND: "no such bulk operation",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("operation", nargs="?", metavar="ID", help="Id of the bulk operation.")
        parser.add_argument("--stop", action="store_true", help="Let the operation go no further.")
        parser.add_argument("--limit", type=whole_number(1), default=20, metavar="N", help="Operations to list (20).")
        parser.add_argument("--action", choices=BulkKind.values, help="Begin an operation that does this.")
        add_selection(parser)
        parser.add_argument("--reason", default="", help="Kept with the runs.")
        parser.add_argument("--stage", metavar="STAGE", help="Of a rerun: id of the first stage to run again.")
        parser.add_argument("--config", metavar="JSON", help="Of a rerun: as of wfe_rerun.")

    def handle(self, *, operation: str | None, stop: bool, as_json: bool, **options: Any) -> None:
        action = options["action"]
        if action is not None and operation is None and not stop:
            self._begin(BulkKind(action), {**options, "as_json": as_json})
        elif action is not None or is_selection(options) or (stop and operation is None):
            message = "Name an ID (with --stop, if it is to go no further), or an --action and the runs; not both."
            raise Refusal(message, returncode=USAGE, code="USAGE")
        elif operation is None:
            self._list(options["limit"], as_json=as_json)
        elif stop:
            self._stop(find_operation(operation), as_json=as_json)
        else:
            self._show(find_operation(operation), as_json=as_json)

    def _begin(self, kind: BulkKind, options: dict[str, Any]) -> None:
        arguments = {"reason": options["reason"]}
        if kind == BulkKind.RERUN:
            config = None if options["config"] is None else read_json(options["config"], "--config")
            arguments = {"stage_id": options["stage"], "config": config}
        begin(self, kind, read_selection(options), options, **arguments)

    def _stop(self, operation: BulkOperation, *, as_json: bool) -> None:
        stopped = cancel_bulk(operation)
        operation.refresh_from_db()
        if as_json:
            self.say_json({**as_data(operation), "stopped": stopped})
        elif stopped:
            self.say(f"Bulk operation {operation.pk} goes no further: {_progress(operation)}.")
        if not stopped:
            message = f"Bulk operation {operation.pk} had already ended: it is {operation.status}."
            raise CommandError(message, returncode=FAILED)

    def _list(self, limit: int, *, as_json: bool) -> None:
        rows = list(BulkOperation.objects.using(get_kernel().ports.using).order_by("-id")[:limit])
        if as_json:
            self.say_json({"operations": [as_data(row) for row in rows]})
            return
        lines = [
            (str(row.pk), row.kind, row.status, _progress(row), str(row.failed), row.actor, moment(row.created_at))
            for row in rows
        ]
        for line in table(("operation", "action", "status", "done", "failed", "by", "created"), lines):
            self.say(line)

    def _show(self, operation: BulkOperation, *, as_json: bool) -> None:
        failed = operation.targets.using(operation._state.db).filter(outcome=TargetOutcome.FAILED).order_by("id")
        failures = list(failed.values("run_id", "message")[:MOST_FAILURES])
        if as_json:
            self.say_json({**as_data(operation), "failures": failures})
            return
        for line in _lines(operation, failures):
            self.say(line)


def _progress(row: BulkOperation) -> str:
    return f"{row.done:,} of {row.total:,}"


def _lines(row: BulkOperation, failures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from facts(
        {
            "operation": str(row.pk),
            "action": row.kind,
            "from stage": row.arguments.get("stage_id") or "",
            "reason": row.arguments.get("reason") or "",
            "by": row.actor,
            "status": row.status,
            "done": f"{_progress(row)}: {row.changed:,} changed, {row.unchanged:,} unchanged, {row.failed:,} failed",
            "created": moment(row.created_at),
            "started": moment(row.started_at),
            "finished": moment(row.finished_at),
        }
    )
    if failures:
        yield ""
        yield from table(("failed run", "why"), [(str(one["run_id"]), one["message"]) for one in failures])
        if row.failed > len(failures):
            yield f"… and {row.failed - len(failures):,} more"
