"""The example workflow as a whole, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from example_project.documents import samples
from example_project.documents.schemas import Report
from workflow_engine.models import StageAttempt, WorkflowArtifact, WorkflowLog
from workflow_engine.testing import run_workflow

pytest.importorskip("py3langid")
pytestmark = pytest.mark.django_db
SAMPLES = Path(samples.__path__[0])


def test_a_folder_of_documents_gives_a_report_in_two_forms() -> None:
    from example_project.documents.workflows import document_analysis

    result = run_workflow(document_analysis, {"path": str(SAMPLES)})

    assert result.status == "COMPLETED", result.error
    assert isinstance(result.output, Report)
    assert result.output.documents >= 3
    assert result.output.skipped == 0
    artifacts = {item.name: item for item in WorkflowArtifact.objects.all()}
    assert set(artifacts) == {"report.json", "report.html"}
    assert len(json.loads(artifacts["report.json"].read())["documents"]) == result.output.documents
    assert b"<svg" in artifacts["report.html"].read()


def test_an_unreadable_document_fails_the_stage_with_its_name(tmp_path: Path) -> None:
    from example_project.documents.workflows import document_analysis

    (tmp_path / "good.txt").write_text("A good document with some words in it.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 not really")

    failed = run_workflow(document_analysis, {"path": str(tmp_path)})

    assert failed.status == "FAILED"
    assert failed.error is not None
    assert (failed.error["stage"], failed.error["class"]) == ("extract-text", "NonRetryableError")
    assert "broken.pdf" in failed.error["message"]


def test_the_others_go_on_where_the_config_says_so(tmp_path: Path) -> None:
    from example_project.documents.workflows import document_analysis

    (tmp_path / "good.txt").write_text("A good document with some words in it.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 not really")

    result = run_workflow(
        document_analysis, {"path": str(tmp_path)}, config={"extract-text": {"on_unreadable": "skip"}}
    )

    assert result.status == "COMPLETED", result.error
    assert result.output is not None
    assert (result.output.documents, result.output.skipped) == (1, 1)
    assert WorkflowLog.objects.filter(level="WARNING", message="Skipped an unreadable document").exists()


def test_a_practice_failure_is_retried(tmp_path: Path) -> None:
    from example_project.documents.workflows import document_analysis

    (tmp_path / "good.txt").write_text("A good document with some words in it.")

    result = run_workflow(document_analysis, {"path": str(tmp_path)}, config={"extract-text": {"practice_failures": 1}})

    assert result.status == "COMPLETED"
    attempts = StageAttempt.objects.filter(stage="extract-text").order_by("attempt")
    assert [item.outcome for item in attempts] == ["retrying", "completed"]


def test_a_path_where_nothing_is_fails_saying_so(tmp_path: Path) -> None:
    from example_project.documents.workflows import document_analysis

    result = run_workflow(document_analysis, {"path": str(tmp_path / "nothing")})

    assert result.status == "FAILED"
    assert result.error is not None
    assert "nothing" in result.error["message"]
