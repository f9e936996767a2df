"""``wfe_prune``: by the settings, or once by what the options say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.management.calling import call
from tests.workflows import chain, failing
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import OutboxEvent, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _runs(known: Callable[..., Any], host: InlineHost, clock: FakeClock) -> None:
    known(chain(1), failing())
    for workflow in ("chain", "chain", "failing"):
        create_run(workflow, {"value": 1})
    host.drain()
    clock.advance(timedelta(days=20))


def test_by_the_settings_events_go_after_two_weeks_and_runs_stay() -> None:
    called = call("wfe_prune")

    assert called.code == 0
    assert called.lines[0].startswith("events: ")
    assert called.lines[2] == "runs: 0 deleted"
    assert not OutboxEvent.objects.exists()
    assert WorkflowRun.objects.count() == 3


def test_a_dry_run_counts() -> None:
    called = call("wfe_prune", "--dry-run", "--json")
    nothing = dict.fromkeys(
        ("logs", "runs", "keys", "workers", "bulk", "schedules", "deliveries", "limits", "blobs"), 0
    )
    counts = {"events": 3, **nothing}

    assert called.json == {"dry_run": True, "deleted": counts, "kept": {}}
    assert OutboxEvent.objects.exists()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--older-than", "10d"), 0),
        (("--older-than", "3w"), 3),
        (("--older-than", "10d", "--status", "FAILED"), 2),
        (("--older-than", "10d", "--status", "failed", "--status", "completed"), 0),
        (("--older-than", "10d", "--batch", "1"), 0),
    ],
)
def test_runs_by_their_age_and_status(options: tuple[str, ...], left: int) -> None:
    called = call("wfe_prune", "--what", "runs", *options)

    assert (called.code, called.lines) == (0, [f"runs: {3 - left} deleted"])
    assert WorkflowRun.objects.count() == left


@pytest.mark.parametrize("options", [("--older-than", "1d"), ("--status", "FAILED")])
def test_options_of_a_kind_need_one(options: tuple[str, ...]) -> None:
    called = call("wfe_prune", *options)

    assert called.code == 2
    assert "go with --what" in called.error


@pytest.mark.parametrize(
    ("options", "deleted"), [((), 1), (("--older-than", "30d"), 0), (("--older-than", "2h", "--dry-run"), 1)]
)
def test_files_that_no_row_refers_to_go_after_a_day_without_any_setting(
    kernel: Kernel, clock: FakeClock, options: tuple[str, ...], deleted: int
) -> None:
    run = WorkflowRun.objects.earliest("pk")
    kernel.ports.blobs.put(f"runs/{run.pk}/add-1/0.9/output.json", b"1")

    called = call("wfe_prune", "--what", "blobs", *options)

    assert (called.code, called.lines[0].split()[1]) == (0, str(deleted))
    gone = bool(deleted) and "--dry-run" not in options
    assert kernel.ports.blobs.has(f"runs/{run.pk}/add-1/0.9/output.json") is not gone
    assert call("wfe_prune").lines[-1] == "blobs: 0 deleted"


def test_an_age_of_files_below_an_hour_is_refused() -> None:
    called = call("wfe_prune", "--what", "blobs", "--older-than", "90s")

    assert called.code == 2
    assert "an hour or more" in called.error
