"""Take the markup off Markdown and HTML."""

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

UNSEEN = {"script", "style", "template", "noscript", "svg", "head"}
INLINE = {"a", "abbr", "b", "cite", "code", "del", "em", "i", "ins", "kbd", "mark", "q", "s", "small", "span", "strong"}
INLINE |= {"sub", "sup", "time", "u", "var", "wbr", "bdi", "bdo", "dfn", "samp", "font", "tt", "img"}


def text_of_markdown(source: str) -> str:
    """Return the text that a reader of the rendered page sees."""
    return text_of_html(MarkdownIt("commonmark").enable("table").render(source))


def text_of_html(source: str) -> str:
    """Return the visible text, an empty line between two blocks, so that a heading does not run into its paragraph."""
    parser = _VisibleText()
    parser.feed(source)
    parser.close()
    return "".join(parser.parts)


class _VisibleText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            # A head whose end tag was left out, as HTML allows, must not hide the page.
            self._unseen.clear()
        if tag in UNSEEN:
            self._unseen.append(tag)
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(re.sub(r"\s+", " ", data))

    def _separate(self, tag: str) -> None:
        if tag not in INLINE:
            self.parts.append("\n" if tag == "br" else "\n\n")
