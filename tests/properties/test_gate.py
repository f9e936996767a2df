"""The one gate for stored JSON: what it lets through comes back equal, what it stops is named by its path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import event, example, given

from tests.values.comparing import same
from tests.values.corpus import deep
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.errors import InvalidPayload
from workflow_engine.kernel.payloads import MAX_COLUMN_DEPTH, MAX_DEPTH, check_column, pack, scrub
from workflow_engine.kernel.ports import Limits
from workflow_engine.models import RunData
from workflow_engine.models.payloads import Envelope

from .profiles import steps

pytestmark = pytest.mark.django_db
SETTINGS = steps(100, elsewhere=40, long=20_000)
# Most characters, and those that do harm more often than their share.
TEXT = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from('\x00\ud83d\ude00\ufeff\u2028"\\'))
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([400, 999, 1000, 4000]).map(lambda digits: -(10**digits))
    | st.just(2**53 + 1)
)
ODD = st.sampled_from([b"a", {1}, object(), 1j, {1: 2}, {None: 1}, {"a": {True: 1}}])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
TREES = st.recursive(
    SCALARS | ODD, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=30
)


@st.composite
def values(draw: Any) -> Any:
    """Return a tree, at times below many levels."""
    value = draw(TREES)
    for kind in draw(st.lists(st.booleans(), max_size=70) if draw(st.booleans()) else st.just([])):
        value = [value] if kind else {"a": value}
    return value


@pytest.fixture
def run_id(known: Any, kernel: Any) -> Any:
    known(chain(1))
    return create_run("chain", {"value": 1}).pk


def is_plain(value: Any, most: int) -> bool:
    """Return what the gate should say, in words of its own."""
    return all(depth <= most and _fits(item) for item, depth in _items(value, 1))


def _items(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    yield value, depth
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (key if isinstance(key, str) else object()), depth
            yield from _items(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner, depth + 1)


def _fits(item: Any) -> bool:
    if isinstance(item, str):
        return "\x00" not in item and not any("\ud800" <= letter <= "\udfff" for letter in item)
    if isinstance(item, float):
        return math.isfinite(item)
    if isinstance(item, int):
        return abs(item) < 2**3322
    return item is None or isinstance(item, dict | list)


@SETTINGS
@given(value=values())
@example(value=deep(MAX_COLUMN_DEPTH - 3))
@example(value={"a": 1.5e300})
def test_a_column_gives_back_what_the_gate_lets_through(value: Any, run_id: Any) -> None:
    try:
        check_column({"a": value})
    except InvalidPayload as error:
        event("refused")
        assert not is_plain({"a": value}, MAX_COLUMN_DEPTH)
        assert error.path.startswith("a") and error.problem
        return

    RunData.objects.filter(pk=run_id).update(metadata={"a": value})

    assert is_plain({"a": value}, MAX_COLUMN_DEPTH)
    assert same(value, RunData.objects.get(pk=run_id).metadata["a"])


@SETTINGS
@given(value=values())
@example(value=deep(MAX_DEPTH - 1))
@example(value="\x85\u2028\ufeff")
def test_an_envelope_gives_back_what_the_gate_lets_through(value: Any, run_id: Any) -> None:
    blobs = InMemoryBlobStore()
    try:
        # A part goes to the blob store.
        envelope = pack(value, lambda digest: f"a/{digest}", blobs, Limits(inline_payload_bytes=100), "a")
    except InvalidPayload as error:
        event("refused")
        assert not is_plain(value, MAX_DEPTH)
        assert error.problem
        return

    RunData.objects.filter(pk=run_id).update(input=envelope)

    assert is_plain(value, MAX_DEPTH)
    assert same(value, Envelope(RunData.objects.get(pk=run_id).input).open(blobs))


@SETTINGS
@given(value=values())
def test_what_is_scrubbed_can_always_be_kept(value: Any, run_id: Any) -> None:
    kept = {"a": scrub(value, 2)}

    RunData.objects.filter(pk=run_id).update(metadata=kept)

    check_column(kept)
    assert same(kept, RunData.objects.get(pk=run_id).metadata)
    if is_plain({"a": value}, MAX_COLUMN_DEPTH - 1):
        assert same(kept["a"], value)
