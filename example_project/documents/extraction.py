"""Get the plain text out of a file: text, Markdown, HTML or PDF."""

import codecs
import re
from pathlib import Path
from typing import Literal

from .markup import text_of_html, text_of_markdown
from .pdf import text_of_pdf
from .unreadable import UnreadableDocument

Kind = Literal["text", "markdown", "html", "pdf"]

MAX_BYTES = 50 * 1024 * 1024
SUFFIXES: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
# Documents that by custom have no suffix, or a version for one.
NAMES = re.compile(
    r"(readme|licen[cs]e|copying|authors|notice|changelog|changes|contributing|install)\b", re.IGNORECASE
)


def is_document(path: Path) -> bool:
    """Tell by its name alone whether a file in a searched folder is worth reading."""
    return path.suffix.lower() in SUFFIXES or (not path.suffix and NAMES.match(path.name) is not None)


def kind_of(path: Path) -> Kind:
    """Return the kind that the suffix stands for; anything else is tried as plain text."""
    return SUFFIXES.get(path.suffix.lower(), "text")


def read_text(path: Path, *, max_characters: int) -> tuple[str, bool]:
    """Read the text of a file; the flag says whether it was cut at `max_characters`.

    Paragraphs are separated by empty lines; control characters and markup are gone.

    Raises:
        UnreadableDocument: the file may not be read, is binary, broken, encrypted or too large, or holds no text.
        OSError: the disk failed; another attempt may succeed.
    """
    kind = kind_of(path)
    data = _read_bytes(path)
    # One character more than wanted, to know whether there was more.
    text = text_of_pdf(data, enough=max_characters + 1) if kind == "pdf" else decode(data)
    if kind == "markdown":
        text = text_of_markdown(text)
    elif kind == "html":
        text = text_of_html(text)
    text = _tidy(text)
    if not text:
        raise UnreadableDocument("it holds no text")
    return text[:max_characters], len(text) > max_characters


def decode(data: bytes) -> str:
    """Decode a text file: UTF-8, UTF-16 with a byte order mark, else Windows-1252, which old Western files are.

    Raises:
        UnreadableDocument: the bytes are no text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise UnreadableDocument("it is binary, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableDocument(f"it is larger than {MAX_BYTES // 1024**2} MiB")
        return path.read_bytes()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UnreadableDocument(f"it cannot be opened: {error.strerror}") from error


def _tidy(text: str) -> str:
    # The fonts of a PDF can name halves of surrogate pairs, which no JSON can hold.
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[^\S\n]+", " ", re.sub(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", "", text))
    return re.sub(r" *\n *", "\n", re.sub(r"\n\s*\n", "\n\n", text)).strip()
