"""``wfe_pause`` and ``wfe_resume``, and what ``wfe_status`` says meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.management.calling import call
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, Pause, WorkflowRun

pytestmark = pytest.mark.django_db
Know = Callable[..., Any]


def test_a_run_is_paused_and_resumed(known: Know, host: InlineHost) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})

    paused = [call("wfe_pause", str(run.pk), "--reason", "not today") for _ in range(2)]

    assert [(one.code, one.lines) for one in paused] == [
        (0, [f"Run {run.pk} is paused."]),
        (0, [f"Run {run.pk} was paused already."]),
    ]
    event = OutboxEvent.objects.get(type="run.paused")
    assert event.payload["reason"] == "not today"
    shown = call("wfe_status", str(run.pk))
    assert "status      PENDING, paused" in shown.lines
    (now,) = [line for line in shown.lines if line.startswith("now ")]
    assert f"by {event.payload['actor']}: not today. Nothing new starts until it is resumed." in now
    assert call("wfe_status", str(run.pk), "--json").json["waiting"] == now.removeprefix("now").strip()
    resumed = [call("wfe_resume", str(run.pk), "--json") for _ in range(2)]
    facts = {"scope": "run", "name": str(run.pk), "status": "PENDING"}
    assert [one.json for one in resumed] == [{**facts, "changed": True}, {**facts, "changed": False}]
    assert WorkflowRun.objects.get(pk=run.pk).paused_at is None


@pytest.mark.parametrize(
    ("option", "name", "scope"), [("--workflow", "chain", "workflow"), ("--queue", "workflows", "queue")]
)
def test_a_workflow_or_a_queue_is_paused_shown_and_resumed(
    known: Know, host: InlineHost, option: str, name: str, scope: str
) -> None:
    known(chain(1))

    called = call("wfe_pause", option, name, "--reason", "a bad\nrelease")

    assert (called.code, called.lines) == (0, [f"{scope.capitalize()} {name} is paused."])
    run = create_run("chain", {"value": 1})
    assert ("has been paused since" in call("wfe_status", str(run.pk)).out) is (scope == "workflow")
    status = call("wfe_status")
    (line,) = [line for line in status.lines if line.startswith("Paused: ")]
    assert line.startswith(f"Paused: {scope} {name}, ")
    assert line.endswith(": a bad release")
    (row,) = call("wfe_status", "--json").json["pauses"]
    assert (row["scope"], row["name"], row["reason"]) == (scope, name, "a bad\nrelease")
    called = call("wfe_resume", option, name, "--json")
    assert called.json == {"scope": scope, "name": name, "changed": True}
    assert not Pause.objects.exists()
    assert call("wfe_resume", option, name).lines == [f"{scope.capitalize()} {name} was not paused."]


def test_a_queue_without_stages_is_paused_and_said_to_have_none(known: Know) -> None:
    known(chain(1))

    called = call("wfe_pause", "--queue", "wrokflows")

    assert called.code == 0
    assert called.lines == [
        "Queue wrokflows is paused.",
        "No stage of the code here is in it. Queues with stages: workflows.",
    ]
    assert call("wfe_pause", "--queue", "workflows").lines == ["Queue workflows is paused."]


@pytest.mark.parametrize("command", ["wfe_pause", "wfe_resume"])
def test_a_run_that_has_ended_exits_with_1(known: Know, host: InlineHost, command: str) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    host.drain()

    called = call(command, str(run.pk))

    assert (called.code, called.lines) == (1, [])
    assert called.error == f"Run {run.pk} had already ended: it is COMPLETED."


@pytest.mark.parametrize("command", ["wfe_pause", "wfe_resume"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("01890000-0000-7000-8000-000000000000", "--queue", "q"), 2),
        (("--workflow", "unknown"), 2),
        (("--queue", ""), 2),
        (("nonsense",), 3),
        (("01890000-0000-7000-8000-000000000000",), 3),
    ],
)
def test_what_is_named_wrongly_is_refused(
    known: Know, host: InlineHost, command: str, arguments: tuple[str, ...], code: int
) -> None:
    known(chain(1))

    called = call(command, *arguments)

    assert called.code == code
    assert called.error
