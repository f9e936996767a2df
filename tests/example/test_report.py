from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser

from example_project.documents.language import Language
from example_project.documents.readability import Readability
from example_project.documents.report import Content, as_html, as_json, build
from example_project.documents.schemas import Findings, Skipped, Text, Texts

HOSTILE = """"><script>alert('1')</script><img src=x onerror=alert(2)>{{ settings }}{% load x %}.txt"""
LANGUAGES = {"en": "English", "de": "German", "fr": "French"}


def content_of(*documents: tuple[str, str, float | None], skipped: tuple[str, ...] = (), left_out: int = 0) -> Content:
    """Build the content of a report on documents, each (name, language, LIX)."""
    texts = Texts(
        documents=[Text(name=name, kind="text", text="…", truncated=False) for name, _, _ in documents],
        skipped=[Skipped(name=name, reason="it is encrypted") for name in skipped],
        left_out=left_out,
    )
    findings = Findings(
        detect_language={
            name: Language(code=code, name=LANGUAGES.get(code, code), confidence=1) for name, code, _ in documents
        },
        score_readability={
            name: Readability(words=1_000, sentences=50, minutes=4.3, lix=lix, level="Easy" if lix else None)
            for name, _, lix in documents
        },
        find_key_phrases={name: [f"about {name}"] for name, _, _ in documents},
    )
    return build(texts, findings, created_at=datetime(2030, 1, 2, 3, 4, tzinfo=UTC))


class Tags(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.seen if tag == name]


def test_the_findings_are_joined_by_document_and_counted_by_language() -> None:
    content = content_of(("a", "de", 32), ("b", "en", 30), ("c", "en", 40), ("d", "fr", None))

    assert list(content.languages.items()) == [("English", 2), ("German", 1), ("French", 1)]
    assert (content.words, content.median_lix) == (4_000, 32)
    assert content.documents[0].phrases == ["about a"]


def test_the_json_holds_the_same_as_the_content() -> None:
    content = content_of(("a", "de", 32), skipped=("b.pdf",))

    assert Content.model_validate(json.loads(as_json(content))) == content


def test_a_hostile_name_stays_text() -> None:
    page = as_html(content_of((HOSTILE, "en", 35), skipped=(HOSTILE,)))

    tags = Tags(page)
    assert not tags.named("script") and not tags.named("img")
    assert "{{ settings }}" in page
    assert "&lt;script&gt;" in page


def test_a_hostile_language_name_stays_text_in_the_chart() -> None:
    assert not Tags(as_html(content_of(("a", "<script>", 35)))).named("script")


def test_the_page_needs_no_other_file_and_runs_nothing() -> None:
    tags = Tags(as_html(content_of(("a", "en", 35))))

    assert not [tag for tag, attributes in tags.seen if attributes.keys() & {"src", "href", "onload", "onclick"}]
    assert {"http-equiv", "content"} in [set(attributes) for attributes in tags.named("meta")]


def test_the_chart_has_a_part_for_each_level_and_language() -> None:
    tags = Tags(as_html(content_of(("a", "en", 35), ("b", "en", 35), ("c", "de", 35), ("d", "fr", None))))

    parts = [rect for rect in tags.named("rect") if rect.get("class") in {"c0", "c1", "c2"}]
    widths = [float(part["width"] or 0) for part in parts]
    assert [part["class"] for part in parts] == ["c0", "c1"]
    assert widths[0] > 1.9 * widths[1] > 0


def test_many_languages_share_the_last_colour() -> None:
    page = as_html(content_of(*((f"{number}", f"language {number}", 35.0) for number in range(9))))

    assert "Other languages" in page
    assert "c6" not in {rect.get("class") for rect in Tags(page).named("rect")}


def test_what_is_missing_is_said() -> None:
    page = as_html(content_of(("a", "en", None), skipped=("secret.pdf",), left_out=1))

    assert "not measured" in page
    assert "secret.pdf" in page and "it is encrypted" in page
    assert "1 document beyond the limit left out." in page


def test_a_report_on_nothing_is_still_a_page() -> None:
    page = as_html(content_of(skipped=("a.pdf",)))

    assert "No document could be read." in page
    assert not Tags(page).named("table")
