from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from example_project.documents.sources import NoDocuments, find_documents


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    for name in ("b.txt", "A.md", "deep/er/c.html", "deep/d.pdf", "LICENSE", ".hidden/e.txt", ".f.txt", "code.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")
    return tmp_path


def names(path: Path | str) -> list[str]:
    return [document.name for document in find_documents(str(path))]


def test_a_folder_gives_its_documents_by_name_down_to_the_bottom(shelf: Path) -> None:
    assert names(shelf) == ["A.md", "b.txt", "deep/d.pdf", "deep/er/c.html", "LICENSE"]


def test_a_single_file_is_taken_whatever_it_is_called(shelf: Path) -> None:
    assert names(shelf / "code.py") == ["code.py"]


def test_a_pattern_gives_what_it_matches_with_names_below_its_fixed_part(shelf: Path) -> None:
    assert names(shelf / "deep" / "**" / "*.*") == ["d.pdf", "er/c.html"]
    assert names(shelf / "*.py") == ["code.py"]


def test_a_relative_pattern_is_seen_from_the_working_directory(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)

    assert names("*.txt") == ["b.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes[1].txt").write_text("text")

    assert names(tmp_path / "notes[1].txt") == ["notes[1].txt"]


def test_a_link_to_nowhere_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("text")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")

    assert names(tmp_path) == ["here.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes as a file name")
def test_names_that_are_not_utf8_stay_apart_and_fit_into_json(tmp_path: Path) -> None:
    for raw in (b"\xfe.txt", b"\xff.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_text("text")

    assert names(tmp_path) == [r"\xfe.txt", r"\xff.txt"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", r"The folder '.*' holds no documents\."),
        ("*.txt", r"No file matches '.*\*\.txt'\."),
        ("missing.txt", r"There is no file or folder '.*missing\.txt', seen from '.*'\."),
    ],
)
def test_a_path_that_leads_nowhere_says_why(tmp_path: Path, path: str, why: str) -> None:
    with pytest.raises(NoDocuments, match=why):
        find_documents(str(tmp_path / path))
