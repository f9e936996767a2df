from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import JSONClient, problem_of
from workflow_engine import create_run
from workflow_engine.definitions import Workflow
from workflow_engine.models import OutboxEvent


def test_a_run_is_paused_and_resumed_with_reasons(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    run = create_run(workflow, {})

    bodies = [
        api.send(f"runs/{run.pk}/{name}/", {"reason": f"{name} it"}).json()
        for name in ("pause", "pause", "resume", "resume")
    ]

    assert [(body["changed"], body["status"]) for body in bodies] == [
        (True, "PENDING"),
        (False, "PENDING"),
        (True, "PENDING"),
        (False, "PENDING"),
    ]
    told = OutboxEvent.objects.filter(run=run, type__in=["run.paused", "run.resumed"]).order_by("sequence")
    assert [event.payload["reason"] for event in told] == ["pause it", "resume it"]


def test_a_paused_run_says_who_paused_it_and_why(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    run = create_run(workflow, {})
    api.send(f"runs/{run.pk}/pause/", {"reason": "audit"})

    body = api.read(f"runs/{run.pk}/").json()

    assert body["paused_at"] is not None
    assert body["waiting"].startswith("Paused since ")
    assert body["waiting"].endswith(": audit. Nothing new starts until it is resumed.")


@pytest.mark.parametrize("name", ["pause", "resume"])
@pytest.mark.parametrize("body", [{"reason": 1}, {"reason": "x" * 2001}, {"reason": "a\x00b"}, {"why": ""}])
def test_a_body_that_does_not_fit_is_422(
    api: JSONClient, workflow: Workflow[Any, Any], name: str, body: dict[str, Any]
) -> None:
    run = create_run(workflow, {})

    answer = api.send(f"runs/{run.pk}/{name}/", body)

    assert answer.status_code == 422
    assert problem_of(answer)["errors"]
