from __future__ import annotations

import json
from pathlib import Path

import pytest

from example_project.documents.extraction import kind_of, read_text
from example_project.documents.unreadable import UnreadableDocument

from .pdfs import encrypted, pdf_with


def text_in(file: Path) -> str:
    text, _ = read_text(file, max_characters=1_000)
    return text


def write(folder: Path, name: str, data: bytes) -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    "data",
    [
        "Größe: 3 €".encode(),
        b"\xef\xbb\xbf" + "Größe: 3 €".encode(),
        "Größe: 3 €".encode("utf-16"),
        "Größe: 3 €".encode("cp1252"),
    ],
    ids=["utf-8", "utf-8 with a mark", "utf-16", "windows-1252"],
)
def test_text_is_read_in_the_encodings_that_occur(tmp_path: Path, data: bytes) -> None:
    assert text_in(write(tmp_path, "a.txt", data)) == "Größe: 3 €"


def test_white_space_shrinks_but_paragraphs_stay(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", b"  one\ttwo  \r\nthree\r\n\r\n\r\n \r\nfour\x07\f ")

    assert text_in(file) == "one two\nthree\n\nfour"


def test_a_long_text_is_cut_and_says_so(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", b"12345678")

    assert read_text(file, max_characters=8) == ("12345678", False)
    assert read_text(file, max_characters=7) == ("1234567", True)


def test_html_gives_what_a_reader_sees(tmp_path: Path) -> None:
    page = b"""<!doctype html><html><head><title>Tab</title><style>p { color: red }</style></head><body>
        <h1>A&nbsp;heading</h1><p>Some <b>bo</b>ld text &amp; more.<br>Next line.</p>
        <script>alert("no")</script><ul><li>one<li>two</ul></body></html>"""

    assert text_in(write(tmp_path, "a.html", page)) == "A heading\n\nSome bold text & more.\nNext line.\n\none\n\ntwo"


def test_a_page_whose_head_never_ends_is_still_read(tmp_path: Path) -> None:
    assert text_in(write(tmp_path, "a.htm", b"<head><title>Tab</title><body><p>Hello.")) == "Hello."


def test_markdown_loses_its_markup(tmp_path: Path) -> None:
    page = b"# Title\n\nSome *soft* and [linked](https://example.org) words.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"

    text = text_in(write(tmp_path, "a.md", page))

    assert text.split() == ["Title", "Some", "soft", "and", "linked", "words.", "a", "b", "1", "2"]


def test_a_pdf_gives_the_text_of_its_pages(tmp_path: Path) -> None:
    assert text_in(write(tmp_path, "a.pdf", pdf_with("First page.", "Second page."))) == "First page.\n\nSecond page."


def test_a_pdf_is_read_no_further_than_wanted(tmp_path: Path) -> None:
    file = write(tmp_path, "a.pdf", pdf_with("First page.", "Second page."))

    assert read_text(file, max_characters=5) == ("First", True)
    assert read_text(file, max_characters=len("First page.")) == ("First page.", True)


def test_a_pdf_that_only_restricts_printing_is_read(tmp_path: Path) -> None:
    assert text_in(write(tmp_path, "a.pdf", encrypted(pdf_with("Hello."), user_password=""))) == "Hello."


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.txt", b"\x7fELF\x02\x01\0\0", "it is binary, not text"),
        ("a.txt", b" \n\t ", "it holds no text"),
        ("a.html", b"<p><img src='x.png'></p>", "it holds no text"),
        ("a.pdf", encrypted(pdf_with("Hello."), user_password="secret"), "it is encrypted"),
        ("a.pdf", b"not a pdf at all", "it is no valid PDF"),
        ("a.pdf", b"", "it is no valid PDF"),
        ("a.pdf", pdf_with(""), "it holds no text"),
    ],
    ids=["binary", "blank", "only a picture", "encrypted", "no pdf", "empty pdf", "scanned pdf"],
)
def test_a_file_without_text_says_why(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    file = write(tmp_path, name, data)

    with pytest.raises(UnreadableDocument, match=why):
        read_text(file, max_characters=1_000)


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="it cannot be opened: No such file"):
        read_text(tmp_path / "gone.txt", max_characters=1_000)


def test_half_a_surrogate_pair_does_not_get_into_the_text(tmp_path: Path) -> None:
    cut_off = write(tmp_path, "a.txt", b"\xff\xfe" + "a".encode("utf-16-le") + b"\x3d\xd8")
    odd_font = write(tmp_path, "a.pdf", pdf_with("xA", letter_a="D83D"))

    assert json.dumps([text_in(cut_off), text_in(odd_font)], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.TXT", "text"), ("a.markdown", "markdown"), ("a.htm", "html"), ("a.PDF", "pdf"), ("README", "text")],
)
def test_the_suffix_tells_the_kind(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind
