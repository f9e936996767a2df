from __future__ import annotations

import pytest

from example_project.documents.readability import level_of, score


def test_lix_is_the_length_of_sentences_plus_the_share_of_long_words() -> None:
    result = score("The cat sat on the mat. It was an extraordinary morning.")

    # 11 words in 2 sentences, 2 of them longer than six letters.
    assert (result.words, result.sentences) == (11, 2)
    assert result.lix == pytest.approx(11 / 2 + 100 * 2 / 11, abs=0.05)


def test_a_law_is_harder_than_a_story() -> None:
    story = score("The dog ran home. It was cold. He had a bone.")
    law = score(
        "Notwithstanding the foregoing provisions, the undersigned representatives irrevocably acknowledge "
        "their respective obligations concerning unauthorised distribution."
    )

    assert (story.level, law.level) == ("Very easy", "Very difficult")


def test_a_sentence_may_span_lines_but_not_paragraphs() -> None:
    assert score("One sentence over\ntwo lines\n\nA heading").sentences == 2


@pytest.mark.parametrize("text", ["", "1 2 3", "…"])
def test_a_text_without_words_is_not_measured(text: str) -> None:
    result = score(text)

    assert (result.words, result.lix, result.level) == (0, None, None)


def test_a_script_without_spaces_is_not_measured() -> None:
    assert score("人人生而自由。他们赋有理性和良心。").lix is None


@pytest.mark.parametrize(
    ("lix", "level"), [(29.9, "Very easy"), (30, "Easy"), (59.9, "Difficult"), (60, "Very difficult")]
)
def test_a_level_begins_at_its_bound(lix: float, level: str) -> None:
    assert level_of(lix) == level
