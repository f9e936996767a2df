"""Text made fit for one line of a drawing."""

from __future__ import annotations

import unicodedata


def one_line(text: str) -> str:
    """Return ``text`` with every run of white space as one space, and without control characters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def cut(text: str, longest: int) -> str:
    """Return at most ``longest`` characters; a cut text ends with ``…``."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def width_of(text: str) -> int:
    """Return how many letters' room the text takes: wide ones (Chinese, Japanese, emoji) take two, accents none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def pad(text: str, width: int) -> str:
    """Return ``text`` with spaces up to ``width``."""
    return text + " " * (width - width_of(text))
