"""What a subscriber has heard, beside what there was to hear."""

from __future__ import annotations

from collections.abc import Iterator


def compare(
    who: str, events: tuple[str, ...], wanted: dict[str, list[tuple[int, str]]], found: list[tuple[float, str, int]]
) -> Iterator[str]:
    """Compare what came first with what there was to hear, run by run."""
    first: dict[str, dict[int, None]] = {}
    for _, run_id, sequence in found:
        first.setdefault(run_id, {})[sequence] = None
    for run_id, rows in wanted.items():
        mine = [sequence for sequence, kind in rows if _wants(events, kind)]
        got = list(first.pop(run_id, {}))
        if got != mine:
            yield f"{who} was to hear of {mine} of run {run_id} and has heard {got}"
    if first:
        yield f"{who} has heard of {len(first)} runs that are not there"


def _wants(events: tuple[str, ...], kind: str) -> bool:
    return any(word in ("*", kind) or (word.endswith(".*") and kind.startswith(word[:-1])) for word in events)
