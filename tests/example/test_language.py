from __future__ import annotations

import pytest

from example_project.documents.language import detect

ENGLISH = "Everyone has the right to life, liberty and security of person."
GERMAN = "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person."
FRENCH = "Tout individu a droit à la vie, à la liberté et à la sûreté de sa personne."


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [(ENGLISH, "en", "English"), (GERMAN, "de", "German"), (FRENCH, "fr", "French")],
)
def test_a_sentence_is_enough_to_tell_its_language(text: str, code: str, name: str) -> None:
    language = detect(text)

    assert (language.code, language.name) == (code, name)
    assert 0.9 < language.confidence <= 1


@pytest.mark.parametrize("text", ["", "42", "x"])
def test_a_text_that_could_be_anything_has_no_language(text: str) -> None:
    assert detect(text).code == "und"
