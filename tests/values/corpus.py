"""Values that somebody will send one day: each is made anew, since some can be read only once."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any

# Beside what is refused; no error may show it.
CANARY = "hush-7f3a"


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float


def deep(levels: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


def recursive() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


VALUES: dict[str, Callable[[], Any]] = {
    # Nothing, or next to nothing.
    "null": lambda: None,
    "false": lambda: False,
    "empty text": lambda: "",
    "empty list": list,
    "empty object": dict,
    "empty key": lambda: {"": 1},
    "blank text": lambda: "  \t\n",
    "trailing spaces": lambda: "a  ",
    # Numbers.
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "nan inside": lambda: {"a": [{"b": float("nan"), "password": CANARY}]},
    "nan in a tuple": lambda: (1.0, float("nan")),
    "nan in a generator": lambda: (number for number in [float("nan")]),
    "nan in a deque": lambda: collections.deque([float("nan")]),
    "nan in a dataclass": lambda: Point(float("nan")),
    "nan as a key": lambda: {float("nan"): 1},
    "decimal nan": lambda: decimal.Decimal("NaN"),
    "minus zero": lambda: -0.0,
    "large float": lambda: 1.5e300,
    "small float": lambda: 5e-324,
    "more than a float holds": lambda: 2**53 + 1,
    "400 digits": lambda: 10**400,
    "1,001 digits": lambda: 10**1000,
    "5,000 digits": lambda: 10**5000,
    "decimal": lambda: decimal.Decimal("1.10"),
    "1e5000": lambda: decimal.Decimal("1e5000"),
    "bool beside int": lambda: [True, 1, 1.0, False, 0],
    # Text.
    "nul": lambda: "a\x00b",
    "nul inside": lambda: ["a", {"b": "\x00"}],
    "nul in a key": lambda: {"a\x00": 1},
    "half a pair": lambda: "a\ud83d",
    "other half": lambda: "\ude00b",
    "halves the wrong way": lambda: "\ude00\ud83d",
    "half a pair in a key": lambda: {"\udfff": 1},
    "half a pair inside": lambda: [[{"password": CANARY, "a": "\ud800"}]],
    "emoji": lambda: "👩‍👩‍👧‍👦😀",
    "right to left": lambda: "\u202eevil\u202c שלום",
    "combining": lambda: "e\u0301" + "\u0301" * 50,
    "control characters": lambda: "\x01\x02\x1b[31m\x7f\x85",
    "lines": lambda: "a\r\nb\rc\n\u2028\u2029",
    "byte order mark": lambda: "\ufeffa",
    "not a character": lambda: "\uffff\U0010ffff",
    "255 of four bytes": lambda: "😀" * 255,
    "256 of four bytes": lambda: "😀" * 256,
    "300 letters": lambda: "x" * 300,
    "70,000 letters": lambda: "x" * 70_000,
    "markup": lambda: "<script>alert(1)</script>",
    "quotes": lambda: "'; DROP TABLE wfe_run; --",
    "formula": lambda: "=cmd|' /C calc'!A0",
    "percent": lambda: "%s %(a)s {0} {a} \\u0000 \\",
    "path": lambda: "../../etc/passwd",
    "date at the edge": lambda: "9999-12-31T23:59:59.999999+14:00",
    "text that says null": lambda: "null",
    # Keys.
    "dunder keys": lambda: {"__class__": 1, "__proto__": {"a": 1}, "constructor": 2},
    "reference": lambda: {"$ref": "#/a", "$secret": "b", "$ne": 1},
    "envelope": lambda: {"json": "1", "blob": "a", "size": 1, "sha256": "b", "items": {}},
    "keys alike but for case": lambda: {"a": 1, "A": 2, "ä": 3, "a ": 4},
    "number as a key": lambda: {1: "a"},
    "bool as a key": lambda: {True: "a"},
    "null as a key": lambda: {None: "a"},
    "keys that become one": lambda: {1: "a", "1": "b"},
    "keys of several kinds": lambda: {1: "a", "b": 2, None: 3},
    "tuple as a key": lambda: {(1, 2): "a"},
    "long key": lambda: {"k" * 5_000: 1},
    "separators in a key": lambda: {"a.b/c": {"~1": 1}},
    # Shape.
    "28 deep": lambda: deep(27),
    "60 deep": lambda: deep(60, "dict"),
    "65 deep": lambda: deep(65),
    "1,100 deep": lambda: deep(1_100),
    "2,000 deep": lambda: deep(2_000, "dict"),
    "20,000 deep": lambda: deep(20_000),
    "recursive": recursive,
    # Not JSON.
    "bytes": lambda: b"abc",
    "bytes that are no text": lambda: b"\xff\xfe\x00",
    "set": lambda: {1},
    "tuple": lambda: (1, "a"),
    "time": lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "time without zone": lambda: datetime.datetime(1, 1, 1),
    "span": lambda: datetime.timedelta.max,
    "uuid": lambda: uuid.UUID(int=7),
    "enum": lambda: Colour.RED,
    "object": lambda: object(),
    "class": lambda: Point,
    "function": lambda: deep,
    "exception": lambda: ValueError(CANARY),
    "complex": lambda: 1j,
}
# Only where values may be that large.
LARGE: dict[str, Callable[[], Any]] = {
    "100,001 numbers": lambda: [0] * 100_001,
    "10 megabytes": lambda: "x" * 10_000_000,
}
