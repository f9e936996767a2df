from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from example_project.documents.schemas import Source, Texts
from example_project.documents.workflows import (
    PracticeFailure,
    detect_language,
    document_analysis,
    extract_text,
    find_key_phrases,
    score_readability,
    write_report,
)
from workflow_engine import NonRetryableError

from .desk import Desk, call
from .pdfs import encrypted, pdf_with


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Make a folder with a readable English and German document and an encrypted one."""
    (tmp_path / "english.txt").write_text("Everyone has the right to life, liberty and security of person.")
    (tmp_path / "german.md").write_text("Jeder hat das Recht auf *Leben*, Freiheit und Sicherheit der Person.")
    (tmp_path / "secret.pdf").write_bytes(encrypted(pdf_with("Hello."), user_password="secret"))
    return tmp_path


def extract(path: Path, *, limit: int | None = None, attempt: int = 1, **config: Any) -> tuple[Texts, Desk]:
    return call(extract_text, Source(path=str(path), limit=limit), config=config, attempt=attempt)


def test_the_text_of_every_document_is_extracted_with_progress(shelf: Path) -> None:
    texts, desk = extract(shelf, on_unreadable="skip")

    assert [(text.name, text.kind) for text in texts.documents] == [("english.txt", "text"), ("german.md", "markdown")]
    assert desk.percents[-1] == 100
    assert desk.metrics["documents"] == 2


def test_an_unreadable_document_fails_the_run_for_good_and_is_named(shelf: Path) -> None:
    with pytest.raises(NonRetryableError, match=r"Cannot read 'secret\.pdf': it is encrypted\."):
        extract(shelf)


def test_an_unreadable_document_can_be_skipped_and_is_listed(shelf: Path) -> None:
    texts, desk = extract(shelf, on_unreadable="skip")

    assert [(item.name, item.reason) for item in texts.skipped] == [("secret.pdf", "it is encrypted")]
    assert desk.logs[0][0] == "WARNING"


def test_a_source_without_documents_fails_for_good(tmp_path: Path) -> None:
    with pytest.raises(NonRetryableError, match="holds no documents"):
        extract(tmp_path)


@pytest.mark.parametrize(("limit", "config"), [(1, {}), (None, {"max_documents": 1}), (5, {"max_documents": 1})])
def test_documents_beyond_the_smaller_limit_are_counted(shelf: Path, limit: int | None, config: dict[str, Any]) -> None:
    texts, _ = extract(shelf, limit=limit, **config)

    assert [text.name for text in texts.documents] == ["english.txt"]
    assert texts.left_out == 2


def test_a_practice_failure_ends_with_the_attempt_after_it(shelf: Path) -> None:
    with pytest.raises(PracticeFailure, match="Practice failure 2 of 2"):
        extract(shelf, attempt=2, practice_failures=2, on_unreadable="skip")

    texts, _ = extract(shelf, attempt=3, practice_failures=2, on_unreadable="skip")
    assert texts.documents


def test_the_report_puts_together_what_the_parallel_stages_found(shelf: Path) -> None:
    texts, _ = extract(shelf, on_unreadable="skip")
    findings = {stage.key: call(stage, texts)[0] for stage in (detect_language, score_readability, find_key_phrases)}

    report, desk = call(write_report, findings, outputs={extract_text.id: texts})

    assert (report.documents, report.skipped, report.languages) == (2, 1, {"English": 1, "German": 1})
    assert report.artifacts == list(desk.artifacts) == ["report.json", "report.html"]
    assert json.loads(desk.artifacts["report.json"][0])["documents"][1]["language"]["code"] == "de"
    assert "secret.pdf" in desk.artifacts["report.html"][0]


def test_the_workflow_goes_from_one_stage_over_three_to_one() -> None:
    assert [[stage.id for stage in group.stages] for group in document_analysis.groups] == [
        ["extract-text"],
        ["detect-language", "score-readability", "find-key-phrases"],
        ["write-report"],
    ]
