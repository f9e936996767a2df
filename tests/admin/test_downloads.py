from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.test import Client
from django.urls import reverse

from tests.admin.conftest import ATTACK
from workflow_engine.kernel import Kernel
from workflow_engine.models import WorkflowArtifact


def address(artifact: WorkflowArtifact) -> str:
    return reverse("admin:workflow_engine_workflowartifact_download", args=[artifact.pk])


def test_a_file_is_sent_to_be_saved_and_never_shown(make_run: Callable[..., Any], staff: Callable[..., Client]) -> None:
    make_run()
    artifact = WorkflowArtifact.objects.get()

    answer: Any = staff("view_workflowartifact", "view_payload").get(address(artifact))

    assert b"".join(answer.streaming_content).decode() == f"<p>{ATTACK}</p>"
    assert answer["Content-Disposition"] == 'attachment; filename="note__.html"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]


def test_a_file_is_for_users_who_may_see_artifacts_and_payloads(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    make_run()
    artifact = WorkflowArtifact.objects.get()

    assert staff("view_workflowartifact").get(address(artifact)).status_code == 403
    assert staff("view_payload").get(address(artifact)).status_code == 403


def test_downloading_is_a_get(make_run: Callable[..., Any], chief: Client) -> None:
    make_run()

    assert chief.post(address(WorkflowArtifact.objects.get())).status_code == 405


def test_a_file_that_is_missing_or_damaged_is_404(make_run: Callable[..., Any], chief: Client, kernel: Kernel) -> None:
    make_run()
    artifact = WorkflowArtifact.objects.get()
    WorkflowArtifact.objects.update(sha256="0" * 64)

    damaged = chief.get(address(artifact)).status_code
    kernel.ports.blobs.delete(artifact.key)
    missing = chief.get(address(artifact)).status_code

    assert (damaged, missing) == (404, 404)


def test_an_unknown_artifact_is_404(db: None, chief: Client) -> None:
    unknown = WorkflowArtifact(pk=uuid.uuid4())

    assert chief.get(address(unknown)).status_code == 404
