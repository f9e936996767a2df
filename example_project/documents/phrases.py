"""Find the phrases a text is about, by YAKE: from the text alone, without a trained model."""

from yake import KeywordExtractor  # type: ignore[import-untyped]

LONGEST = 3


def find_phrases(text: str, *, language: str, count: int = 6) -> list[str]:
    """Return up to `count` phrases of at most three words, the most telling first.

    Args:
        language: the ISO 639-1 code; it picks the words that say nothing ("the", "und"). An unknown one picks none.
    """
    extractor = KeywordExtractor(lan=language, n=LONGEST, top=4 * count, dedup_lim=0.7)
    chosen: list[str] = []
    for phrase, _ in extractor.extract_keywords(text):
        if not any(_overlap(phrase, other) for other in chosen):
            chosen.append(phrase)
    return chosen[:count]


def _overlap(one: str, other: str) -> bool:
    """Tell whether one of two phrases only repeats words of the other: "web framework", "Python web framework"."""
    words, others = set(one.casefold().split()), set(other.casefold().split())
    return words <= others or others <= words
