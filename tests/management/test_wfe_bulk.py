"""``wfe_cancel`` without a run, and ``wfe_bulk``."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.bulk.operations import carry_out, make_runs
from tests.management.calling import Terminal, call
from tests.workflows import chain
from workflow_engine import cancel_runs, rerun_runs
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import BulkOperation, OutboxEvent, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any], kernel: Kernel) -> None:
    known(chain(1), chain(1, "other"))


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let somebody sit at the terminal and type."""
    terminal = Terminal("".join(f"{answer}\n" for answer in answers))
    monkeypatch.setattr(sys, "stdin", terminal)


def test_the_open_runs_that_fit_are_cancelled_in_the_background(kernel: Kernel, clock: FakeClock) -> None:
    old = make_runs(2)
    clock.advance(timedelta(days=8))
    make_runs(1)
    make_runs(1, "other")

    called = call("wfe_cancel", "--workflow", "chain", "--older-than", "7d", "--reason", "late", "--yes")

    operation = BulkOperation.objects.get()
    assert (called.code, called.lines) == (
        0,
        [
            "2 open runs of chain created more than 7 d ago are being cancelled, by the workers.",
            f"How far that is: manage.py wfe_bulk {operation.pk}",
        ],
    )
    carry_out(kernel)
    assert {run.pk for run in WorkflowRun.objects.filter(status="CANCELLED")} == {run.pk for run in old}
    assert set(OutboxEvent.objects.filter(type="run.cancelled").values_list("payload__reason", flat=True)) == {"late"}


def test_where_nobody_can_be_asked_it_says_how_many_there_are_and_does_nothing() -> None:
    make_runs(3)

    called = call("wfe_cancel", "--status", "pending", "--json")

    assert called.code == 2
    assert called.json["error"]["code"] == "NOT_CONFIRMED"
    assert called.error == "3 open PENDING runs would be cancelled. Repeat with --yes to do it."
    assert not BulkOperation.objects.exists()


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("Y", 0), ("no", 1), ("", 1)])
def test_whoever_sits_there_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    make_runs(1200)
    answering(monkeypatch, answer)

    called = call("wfe_cancel", "--workflow", "chain")

    assert called.code == code
    assert called.lines[0] == "1,200 open runs of chain would be cancelled. Type yes to do it:"
    assert BulkOperation.objects.count() == (1 - code)


def test_nothing_that_fits_is_nothing_to_do() -> None:
    called = call("wfe_cancel", "--workflow", "unknown", "--yes")

    assert (called.code, called.lines) == (0, ["There are no open runs of unknown: nothing is cancelled."])


@pytest.mark.parametrize(
    "arguments",
    [
        ("wfe_cancel",),
        ("wfe_cancel", "--yes"),
        ("wfe_cancel", "01890000-0000-7000-8000-000000000000", "--status", "PENDING"),
        ("wfe_cancel", "--older-than", "7"),
        ("wfe_cancel", "--older-than", "99999d"),
        ("wfe_cancel", "--status", "DONE"),
        ("wfe_bulk", "--action", "cancel", "--yes"),
        ("wfe_bulk", "--action", "rerun", "--workflow", "chain", "--yes"),
        ("wfe_bulk", "--workflow", "chain"),
        ("wfe_bulk", "--stop"),
        ("wfe_bulk", "01890000-0000-7000-8000-000000000000", "--action", "cancel", "--workflow", "chain"),
    ],
)
def test_what_is_not_clear_is_refused(arguments: tuple[str, ...]) -> None:
    called = call(*arguments)

    assert called.code in (1, 2)  # 1: of argparse, inside a test
    assert called.error
    assert not BulkOperation.objects.exists()


def test_a_rerun_of_many_is_begun_and_shown_with_what_failed(host: InlineHost, kernel: Kernel) -> None:
    make_runs(2)
    host.drain()
    (fresh,) = make_runs(1)

    begun = call("wfe_bulk", "--action", "rerun", "--stage", "add-1", "--workflow", "chain", "--yes", "--json")
    carry_out(kernel)
    shown = call("wfe_bulk", begun.json["operation_id"])
    data = call("wfe_bulk", begun.json["operation_id"], "--json").json

    assert (begun.code, begun.json["total"], begun.json["stage_id"]) == (0, 3, "add-1")
    assert (shown.code, shown.lines[1]) == (0, "action      rerun")
    assert "done        3 of 3: 2 changed, 0 unchanged, 1 failed" in shown.lines
    assert shown.lines[-1].startswith(f"{fresh.pk}  Run {fresh.pk} is PENDING")
    assert (data["status"], data["changed"]) == ("COMPLETED", 2)
    assert [one["run_id"] for one in data["failures"]] == [str(fresh.pk)]


def test_the_latest_operations_are_listed(kernel: Kernel) -> None:
    runs = make_runs(3)
    for count in (1, 2, 3):
        cancel_runs(runs[:count], actor="ada")

    lines = call("wfe_bulk", "--limit", "2").lines
    data = call("wfe_bulk", "--json").json["operations"]

    assert [line.split()[1:6] for line in lines[1:]] == [
        ["cancel", "PENDING", "0", "of", "3"],
        ["cancel", "PENDING", "0", "of", "2"],
    ]
    assert [one["total"] for one in data] == [3, 2, 1]


def test_an_operation_is_stopped_once(kernel: Kernel) -> None:
    operation = rerun_runs(make_runs(2), "add-1")

    first, second = call("wfe_bulk", str(operation.pk), "--stop"), call("wfe_bulk", str(operation.pk), "--stop")

    assert (first.code, first.lines) == (0, [f"Bulk operation {operation.pk} goes no further: 0 of 2."])
    assert (second.code, second.error) == (1, f"Bulk operation {operation.pk} had already ended: it is CANCELLED.")


@pytest.mark.parametrize("operation", ["nonsense", str(uuid.uuid4())])
@pytest.mark.parametrize("more", [(), ("--stop",)])
def test_an_operation_that_does_not_exist_exits_with_3(operation: str, more: tuple[str, ...]) -> None:
    called = call("wfe_bulk", operation, *more)

    assert (called.code, called.error) == (3, f"No bulk operation {operation!r} exists.")
