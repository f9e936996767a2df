"""Show one claim in a terminal, from its receipt to its booking, and answer in the place of the manager."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.management import call_command
from django.utils import timezone

from workflow_engine import Trigger, answer_stage, run_and_wait
from workflow_engine.hosts.wait import RunSnapshot, StageSnapshot
from workflow_engine.models import StageRun

from .models import Expense
from .schemas import Verdict
from .workflows import MANAGER, approve, expense_claim, pay

RECEIPT = "Hotel Analytical Engine\n2 nights\nTotal 240.00"
YES = Verdict(outcome="approved", by="Grace")
Say = Callable[[str], None]


def walk_through(say: Say) -> None:
    """Pay an expense that needs a manager, on a payment day two seconds from now. Takes about six seconds."""
    soon = timezone.now() + timedelta(seconds=2)
    expense = Expense.objects.create(owner="Ada", amount=Decimal("240.00"), receipt=RECEIPT, pay_at=soon)
    say(f"\nNext: Ada wants {expense.amount} back, from a manager, on a payment day, by a bank.\n")
    result = run_and_wait(
        expense_claim,
        subject=expense,
        config={pay.id: {"ask_every_seconds": 0.5}},
        annotations={Trigger.SOURCE: "demo"},
        on_change=Reader(say).change,
        timeout=60,
    )
    expense.refresh_from_db()
    say(f"The run is {result.status}, the expense {expense.status}: {expense.paid_out}, reference {expense.reference}")
    say("The plugin in plugins.py hears of it, and writes to Ada:\n")
    call_command("wfe_outbox", "--flush")


class Reader:
    """Says what happens to the stages, one line each, and gives the one answer."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[tuple[str, str]] = set()

    def change(self, seen: RunSnapshot) -> None:
        for stage in seen.stages:
            words = self._words(seen, stage)
            if words and (stage.stage_id, words) not in self._told:
                self._told.add((stage.stage_id, words))
                self._say(f"{_clock(timezone.now())}  {stage.stage_id:<7}  {words}")
                if words == _asking():
                    self._answer(seen)

    def _words(self, seen: RunSnapshot, stage: StageSnapshot) -> str:
        if stage.status != "SUSPENDED":
            return stage.status.lower() if stage.status in ("COMPLETED", "SKIPPED", "FAILED") else ""
        row = StageRun.objects.get(run=seen.run_id, stage=stage.stage_id)
        if row.wait_kind == "timer" and row.wake_at:
            return f"sleeps until {_clock(row.wake_at)}, the {row.wait_name}"
        return {"answer": _asking(), "poll": "has ordered the transfer, and asks the bank now and then"}.get(
            row.wait_kind, ""
        )

    def _answer(self, seen: RunSnapshot) -> None:
        self._say(f"          the demo answers as {YES.by}: {YES.outcome}")
        answer_stage(seen.run_id, approve, YES, actor="Grace")


def _asking() -> str:
    return f"waits for the answer {MANAGER.name!r}, up to {MANAGER.max_wait.days if MANAGER.max_wait else 0} days"


def _clock(when: datetime) -> str:
    return f"{timezone.localtime(when):%H:%M:%S}"
