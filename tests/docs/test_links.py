"""Links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, links, prose

pytestmark = pytest.mark.one_database


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_every_page_is_linked_from_the_index_and_from_the_readme() -> None:
    pages = {page for page in DOCS.rglob("*.md") if page.name != "index.md"}

    for start in (DOCS / "index.md", ROOT / "README.md"):
        linked = {(start.parent / link.partition("#")[0]).resolve() for link in links(start) if ":" not in link}
        assert pages <= linked, f"{start.name} misses {sorted(str(page) for page in pages - linked)}"


def test_every_page_is_in_the_table_of_contents() -> None:
    text = (DOCS / "conf.py").read_text()
    contents = re.findall(r'"([\w/-]+)"', text[text.index("CONTENTS = {") : text.index("def ")])

    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert pages <= set(contents)


def test_no_page_speaks_of_places_on_somebodys_machine() -> None:
    for page in PAGES:
        found = re.findall(r"/(?:work|tmp|home|root)/\S*", prose(page))
        assert not found, f"{page.name}: {found}"
