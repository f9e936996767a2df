from __future__ import annotations

from example_project.documents.phrases import find_phrases

TEXT = """A workflow engine runs the stages of a workflow one after the other. When a worker crashes, the workflow
engine starts the stage again on another worker. Durable workflows remember what they have done."""


def test_the_phrases_tell_what_the_text_is_about() -> None:
    assert any("workflow engine" in phrase.casefold() for phrase in find_phrases(TEXT, language="en"))


def test_no_phrase_repeats_the_words_of_another() -> None:
    phrases = [set(phrase.casefold().split()) for phrase in find_phrases(TEXT, language="en", count=10)]

    assert not [(one, other) for one in phrases for other in phrases if one is not other and one <= other]


def test_there_are_no_more_phrases_than_asked_for() -> None:
    assert len(find_phrases(TEXT, language="en", count=2)) == 2


def test_an_unknown_language_and_an_empty_text_are_no_errors() -> None:
    assert find_phrases(TEXT, language="und")
    assert find_phrases("", language="en") == []
