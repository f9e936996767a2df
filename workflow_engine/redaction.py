"""Masking of values that must not be shown: what stands under a key of the setting ``REDACT``, in data and in text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .conf import get_setting

MASK = "••••••"


def redact(value: Any) -> Any:
    """Return ``value`` with the values of secret keys masked, at every depth."""
    return _redact(value, tuple(get_setting("REDACT")))


def redact_event(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of an event as it is shown; ``token``, the number of an attempt's lease, is no secret."""
    token = payload.get("token")
    masked: dict[str, Any] = redact(dict(payload))
    return {**masked, "token": token} if isinstance(token, int) else masked


def redact_text(text: str) -> str:
    """Return ``text`` with what follows secret keys masked: ``password=…``, ``"api_key": "…"``, ``user:…@`` in URLs.

    For messages and tracebacks, which say more than their authors think. It is a net, not a promise.
    """
    words = tuple(get_setting("REDACT"))
    text = _IN_URL.sub(rf"\1{MASK}@", text)
    parts, done = [], 0
    for key in _KEY.finditer(text):
        if key.start() < done or not _is_secret(key[1], words):
            continue
        value = _VALUE.match(text, key.end())
        if value is not None:
            parts += [text[done : key.end()], MASK]
            done = value.end()
    return "".join([*parts, text[done:]])


# Each word is begun once and never taken back, so that the time is linear: texts may hold long encoded data, and
# nothing else runs in this process meanwhile.
# scheme://user:password@
_IN_URL = re.compile(r"((?<![a-z0-9+.-])[a-z0-9+.-]++://[^\s/:@]*+:)[^\s/@]++@", re.IGNORECASE)
# A key, perhaps in quotes, and = or :; then a value, in quotes or up to a space or a bracket.
_KEY = re.compile(r"""(?<![\w-])([\w-]++)["']?\s*+[=:]\s*+(?:bearer\s++|basic\s++)?""", re.IGNORECASE)
_VALUE = re.compile(r""""[^"\n]*"|'[^'\n]*'|[^\s,;&)}\]]+""")


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
