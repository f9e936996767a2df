"""What the pages promise, in its exact words, and the tests that they name for it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, prose, rows

PROMISE = (
    "Every accepted run ends.",
    "Each stage is completed at most once and its result never changes afterwards.",
    "Stage code runs at least once and may run again after a crash; use the idempotency token, or `on_complete` for "
    "effects in the same database, which happen exactly once.",
    "Events are delivered at least once, in order per run.",
    "Redis may be lost at any time.",
    "The promise rests on the database keeping what it committed (fsync on, reads and writes on the primary).",
)
GUARANTEES, COMPARISON = DOCS / "explanation/guarantees.md", DOCS / "explanation/comparison.md"
LINK = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def named_tests(page: Path, text: str) -> list[tuple[Path, str]]:
    """Return the tests that a text of the page links to."""
    return [((page.parent / path).resolve(), name) for name, path in LINK.findall(text)]


@cache
def functions_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_links_to_exists(page: Path) -> None:
    missing = [name for file, name in named_tests(page, prose(page)) if name not in functions_of(file)]

    assert missing == []


def test_the_promise_stands_on_its_page_word_for_word() -> None:
    (quote,) = re.findall(r"(?:^> .*\n)+", prose(GUARANTEES), re.MULTILINE)
    words = " ".join(line.removeprefix("> ") for line in quote.splitlines())

    assert words == " ".join(PROMISE)
    assert "\n\nAnything not in this list is not promised.\n\n" in prose(GUARANTEES)


def test_every_sentence_of_the_promise_has_tests() -> None:
    found = {row[0]: named_tests(GUARANTEES, row[1]) for row in rows(GUARANTEES, header="Sentence")}

    assert tuple(found) == PROMISE
    assert all(found.values())


def test_every_situation_of_the_comparison_has_tests_those_made_for_it_first_of_all() -> None:
    table = [row for row in rows(COMPARISON, header="") if re.fullmatch(r"P\d+", row[0])]
    linked = {row[0]: [name for _, name in named_tests(COMPARISON, row[-1])] for row in table}
    made = [name for file in (ROOT / "tests/scenarios").glob("test_known_defects*.py") for name in functions_of(file)]

    assert list(linked) == [f"P{number}" for number in range(1, 20)]
    assert all(linked.values())
    for name in made:
        if number := re.match(r"test_p(\d\d)_", name):
            assert name in linked[f"P{int(number[1])}"], name
