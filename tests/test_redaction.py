from __future__ import annotations

import time

import pytest

from workflow_engine.executors.attempts import describe
from workflow_engine.redaction import MASK, redact_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("login failed: password=hunter2, user=ada", f"login failed: password={MASK}, user=ada"),
        ("{'api_key': 'sk-123', 'model': 'x'}", f"{{'api_key': {MASK}, 'model': 'x'}}"),
        ('{"accessToken": "abc def"}', f'{{"accessToken": {MASK}}}'),
        ("Authorization: Bearer abc.def.ghi", f"Authorization: Bearer {MASK}"),
        ("postgres://bob:s3cret@db:5432/x", f"postgres://bob:{MASK}@db:5432/x"),
        ("used total_tokens=512 of 1000", "used total_tokens=512 of 1000"),
        ("ratio: 3:1, time 12:30", "ratio: 3:1, time 12:30"),
        ("connect(host='db', secret='x y')", f"connect(host='db', secret={MASK})"),
        ("dsn=-postgres+ssl://bob:s3cret@db/x", f"dsn=-postgres+ssl://bob:{MASK}@db/x"),
    ],
)
def test_secrets_in_texts_are_masked(text: str, masked: str) -> None:
    assert redact_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "a" * 500_000,
        "a-" * 250_000,
        "a.1" * 150_000,
        "a1" * 250_000,
        "a://" * 100_000,
        "a " * 250_000,
        "a" + " " * 500_000,
    ],
    ids=["letters", "dashes", "dots", "digits", "schemes", "words", "spaces"],
)
def test_long_encoded_data_in_a_text_does_not_hold_up_the_process(text: str) -> None:
    began = time.process_time()

    assert redact_text(text) == text

    assert time.process_time() - began < 5


def test_what_is_stored_of_an_error_shows_no_secret() -> None:
    def call(password: str) -> None:
        raise ConnectionError(f"refused: password={password}")

    try:
        call(password="hunter2")
    except ConnectionError as error:
        stored = describe(error)

    assert stored.message == f"refused: password={MASK}"
    assert "hunter2" not in stored.traceback
    assert "ConnectionError" in stored.traceback
