from __future__ import annotations

from pathlib import Path

from example_project.documents.extraction import kind_of, read_text
from example_project.documents.installed_documents import gather
from example_project.documents.sources import find_documents


def test_some_readable_documents_of_every_kind_are_always_there(tmp_path: Path) -> None:
    folder = tmp_path / "documents"

    count = gather(folder)

    found = find_documents(str(folder))
    assert 10 <= len(found) == count <= 45
    assert {kind_of(document.path) for document in found} == {"text", "markdown", "html", "pdf"}
    assert all(read_text(document.path, max_characters=100)[0] for document in found)


def test_what_an_earlier_call_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")

    gather(tmp_path)

    assert not (tmp_path / "old.txt").exists()
