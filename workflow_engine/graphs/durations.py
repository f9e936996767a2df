"""Spans of time as people write them."""

from __future__ import annotations

from datetime import timedelta

_PARTS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def spell(span: timedelta) -> str:
    """Return the two largest units that matter: ``250 ms``, ``1.5 s``, ``2 min 5 s``, ``1 d 3 h``. Below 0 is 0."""
    seconds = max(0.0, span.total_seconds())
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{round(seconds, 1):g} s"
    left, words = round(seconds), list[str]()
    for unit, size in _PARTS:
        count, left = divmod(left, size)
        if words:
            return " ".join([*words, f"{count} {unit}"] if count else words)
        if count:
            words.append(f"{count} {unit}")
    return words[0]
