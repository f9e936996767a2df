from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from example_project.secret_key import load_or_create_secret_key


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "var" / "secret_key"

    key = load_or_create_secret_key(file)

    assert len(key) >= 50
    assert load_or_create_secret_key(file) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")

    with pytest.raises(ImproperlyConfigured, match="Set DJANGO_SECRET_KEY"):
        load_or_create_secret_key(tmp_path / "var" / "secret_key")
