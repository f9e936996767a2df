"""Score how hard a text is to read.

LIX is the average length of a sentence in words plus the percentage of words with more than six letters. Unlike Flesch
it counts no syllables, so it needs no dictionary and compares documents in different languages.
"""

import re

from pydantic import BaseModel
from segtok.segmenter import split_multi  # type: ignore[import-untyped]

WORDS_PER_MINUTE = 230
LEVELS = ((30, "Very easy"), (40, "Easy"), (50, "Medium"), (60, "Difficult"))
HARDEST = "Very difficult"
LEVEL_NAMES = (*(name for _, name in LEVELS), HARDEST)
WORD = re.compile(r"[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*")
LONG = 7
# Thai, Japanese, Chinese: writing without spaces, where counting words this way says nothing.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")


class Readability(BaseModel):
    words: int
    sentences: int
    minutes: float
    """Reading time."""
    lix: float | None
    """About 20 for a children's book, 40 for a novel, 60 for a law; None where words cannot be counted."""
    level: str | None


def score(text: str) -> Readability:
    """Count words and sentences; a text without words, or without spaces between them, has no `lix`."""
    words = WORD.findall(text)
    sentences = sum(1 for sentence in split_multi(text) if WORD.search(sentence))
    lix = None
    if words and len(UNSPACED.findall(text)) < len(words):
        lix = round(len(words) / sentences + 100 * sum(len(word) >= LONG for word in words) / len(words), 1)
    return Readability(
        words=len(words),
        sentences=sentences,
        minutes=round(len(words) / WORDS_PER_MINUTE, 1),
        lix=lix,
        level=None if lix is None else level_of(lix),
    )


def level_of(lix: float) -> str:
    return next((name for below, name in LEVELS if lix < below), HARDEST)
