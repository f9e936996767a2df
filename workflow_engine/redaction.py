"""Masking of values that must not be shown: whatever stands under a key of the setting ``REDACT``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from .conf import get_setting

MASK = "••••••"


def redact(value: Any) -> Any:
    """Return ``value`` with the values of secret keys masked, at every depth."""
    return _redact(value, tuple(get_setting("REDACT")))


def _redact(value: Any, words: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: MASK if _is_secret(str(key), words) else _redact(inner, words) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(inner, words) for inner in value]
    return value


@lru_cache(maxsize=4096)
def _is_secret(key: str, words: tuple[str, ...]) -> bool:
    """Whole words only: ``access_token`` and ``apiKey`` are secrets, ``total_tokens`` is not."""
    snake = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
    return any(f"_{word.lower()}_" in f"_{snake}_" for word in words)
