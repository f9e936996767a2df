"""The pages of the documentation, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
_FENCE = re.compile(r"^(?P<run><!-- run -->\n)?```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page. ``is_run``: it stands under ``<!-- run -->``."""

    page: Path
    line: int
    language: str
    text: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def module(self) -> str | None:
        """The module that the block is the file of: its first line is ``# path/to/file.py``."""
        found = re.match(r"# ([\w/]+)\.py\n", self.text)
        return found.group(1).replace("/", ".") if found else None


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["text"],
            found["run"] is not None,
        )
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def rows(page: Path, *, header: str, section: str | None = None) -> list[list[str]]:
    """Return the cells of the tables whose first column is called ``header``; ``section``: under this heading only."""
    found: list[list[str]] = []
    for lines in _tables(_section(page, section) if section else prose(page)):
        if lines[0][0] == header:
            found += lines[2:]
    assert found, f"{page.name}: no table with the first column {header!r}"
    return found


def codes(cell: str) -> list[str]:
    """Return what stands between backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as a forge makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", prose(page))


def _section(page: Path, heading: str) -> str:
    parts = re.split(r"^## (.+)$", prose(page), flags=re.MULTILINE)
    return parts[parts.index(heading) + 1]


def _tables(text: str) -> Iterator[list[list[str]]]:
    for block in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        yield [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
