"""``manage.py wfe_outbox``: who is to hear of what, who has refused what; deliver now, or once more."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.db.models import Count, Min

from workflow_engine.bootstrap import get_kernel
from workflow_engine.event_types import EVENT_TYPES
from workflow_engine.kernel.commands import FlushOutbox, ReplayDeadLetters, SweepWebhooks
from workflow_engine.management.command import COMPLETED, FAILED, UNAVAILABLE, USAGE, EngineCommand, Refusal
from workflow_engine.management.printing import moment, table
from workflow_engine.management.reading import whole_number
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent


class Command(EngineCommand):
    help = "Show what is to be delivered to whom; --flush delivers it here and now, --replay dead letters too."
    exit_codes = {
        COMPLETED: "shown, delivered, or handed to the workers",
        FAILED: "--flush: some deliveries failed and will be tried again",
        USAGE: "the arguments are wrong",
        UNAVAILABLE: "the database refused to work; try again later",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--flush", action="store_true", help="Deliver what is due in this process.")
        parser.add_argument("--replay", action="store_true", help="Have dead letters delivered again, by the workers.")
        parser.add_argument("--run", metavar="RUN", type=run_id, help="Of --replay: only of this run.")
        parser.add_argument("--type", choices=EVENT_TYPES, metavar="TYPE", help="Of --replay: only of this type.")
        parser.add_argument("--subscriber", metavar="NAME", help="Only of this subscriber.")
        parser.add_argument("--max", type=whole_number(1), default=1000, metavar="N", help="Not more (1000).")

    def handle(self, *, flush: bool, replay: bool, as_json: bool, **options: Any) -> None:
        if not replay and (options["run"] or options["type"]):
            raise Refusal("--run and --type go with --replay.", returncode=USAGE, code="USAGE")
        said: dict[str, Any] = {}
        if replay:
            said |= self._replay(options)
        if flush:
            said |= self._flush(options)
        if replay or flush:
            self._say(said, as_json=as_json)
            if said.get("failed"):
                raise Refusal("Some deliveries failed; they are tried again.", returncode=FAILED, code="NOT_DELIVERED")
        elif as_json:
            self.say_json({"subscribers": _state()})
        else:
            for line in _lines(_state()):
                self.say(line)

    def _replay(self, options: dict[str, Any]) -> dict[str, int]:
        command = ReplayDeadLetters(
            run_id=options["run"], event_type=options["type"], subscriber=options["subscriber"], max=options["max"]
        )
        return {"to_be_replayed": get_kernel().dispatch(command).replayed}

    def _flush(self, options: dict[str, Any]) -> dict[str, int]:
        kernel, left = get_kernel(), options["max"]
        total = {"delivered": 0, "replayed": 0, "failed": 0, "dead_lettered": 0}
        kernel.dispatch(SweepWebhooks())
        # What is new may be for this subscriber too.
        kernel.dispatch(FlushOutbox(subscriber=""))
        while left > 0:
            made = kernel.dispatch(FlushOutbox(subscriber=options["subscriber"], max=left))
            for name in total:
                total[name] += getattr(made, name)
            left -= made.delivered + made.replayed
            if not made.more:
                break
        return total

    def _say(self, said: dict[str, int], *, as_json: bool) -> None:
        if as_json:
            self.say_json(said)
            return
        words = {
            "to_be_replayed": "{:,} dead letters will be delivered again.",
            "delivered": "{:,} events delivered.",
            "replayed": "{:,} dead letters delivered.",
            "failed": "{:,} deliveries failed; they are tried again.",
            "dead_lettered": "{:,} new dead letters.",
        }
        for name, count in said.items():
            if count or name in ("to_be_replayed", "delivered"):
                self.say(words[name].format(count))


def run_id(text: str) -> uuid.UUID:
    return uuid.UUID(text)


def _state() -> list[dict[str, Any]]:
    """Return a row per subscriber: those that this process knows, and those of which something is left."""
    ports = get_kernel().ports
    rows = {one.name: _row(one.name, known=True) for one in ports.subscribers.all()}
    cursors = EventCursor.objects.using(ports.using).order_by().values("subscriber")
    for found in cursors.annotate(runs=Count("pk"), oldest=Min("due_at")):
        rows.setdefault(found["subscriber"], _row(found["subscriber"])).update(
            runs_waiting=found["runs"], next_due_at=found["oldest"]
        )
    for cursor in EventCursor.objects.using(ports.using).filter(tries__gt=0).order_by("-tries")[:100]:
        row = rows.setdefault(cursor.subscriber, _row(cursor.subscriber))
        row["last_error"] = row["last_error"] or cursor.error
    letters = DeadLetter.objects.using(ports.using).order_by().values("subscriber")
    for name, count in letters.annotate(letters=Count("pk")).values_list("subscriber", "letters"):
        rows.setdefault(name, _row(name))["dead_letters"] = count
    new = OutboxEvent.objects.using(ports.using).to_hand_on().count()
    if new:
        rows["(not handed on yet)"] = _row("(not handed on yet)", known=True) | {"runs_waiting": None, "events": new}
    return list(rows.values())


def _row(name: str, *, known: bool = False) -> dict[str, Any]:
    return {
        "subscriber": name,
        # Its code is here.
        "known": known,
        "runs_waiting": 0,
        "next_due_at": None,
        "dead_letters": 0,
        "last_error": "",
    }


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "Nobody hears of events: there is no plugin and no sink."
        return
    yield from table(
        ("subscriber", "runs waiting", "next", "dead letters", "last error"),
        [
            (
                row["subscriber"] + ("" if row["known"] else " (not known here)"),
                f"{row['events']:,} events" if row["runs_waiting"] is None else f"{row['runs_waiting']:,}",
                moment(row["next_due_at"]),
                f"{row['dead_letters']:,}",
                row["last_error"][:80],
            )
            for row in rows
        ],
    )
