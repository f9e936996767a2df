"""PostgreSQL's protocol, as far as counting needs it: statements, round trips, transactions, bytes."""

from __future__ import annotations

import re
from collections import Counter

SSL, GSS, CANCEL = 80877103, 80877104, 80877102
CONTROL = re.compile(rb"\s*(BEGIN|COMMIT|ROLLBACK|START|SAVEPOINT|RELEASE|SET|SHOW|LISTEN|DEALLOCATE|CLOSE)\b", re.I)
WRITES = re.compile(rb"\b(INSERT\s+INTO|UPDATE\s+\S+\s+(AS\s+\S+\s+)?SET|DELETE\s+FROM|procrastinate_\w+_v\d)\b", re.I)
EMPTY = re.compile(rb"[\s;\0]*\Z")
QUOTES = re.compile(rb'["\']')


class PostgresWire:
    """One connection. ``statements`` leaves out transaction control; ``commits`` counts transactions that wrote."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts, self.refusal = counts, b""
        self._out, self._in = bytearray(), bytearray()
        self._greeted = False
        self._prepared: dict[bytes, tuple[bool, bool]] = {}
        self._portals: dict[bytes, tuple[bool, bool]] = {}
        self._wrote = self._worked = self._rolled_back = False

    def sent(self, data: bytes) -> bytes:
        """Count what the client sends and return what to pass on; a wish for encryption is refused here."""
        self._out += data
        if self._greeted:
            self.counts["bytes_sent"] += len(data)
            self._count_sent()
            return data
        return self._greet()

    def _greet(self) -> bytes:
        if len(self._out) < 8 or len(self._out) < (size := int.from_bytes(self._out[:4])):
            return b""
        if int.from_bytes(self._out[4:8]) in (SSL, GSS):
            # Encrypted bytes could not be counted.
            self.refusal = b"N"
            del self._out[:size]
            return b""
        passed = bytes(self._out)
        self._greeted = int.from_bytes(self._out[4:8]) != CANCEL
        del self._out[:size]
        self._count_sent()
        return passed

    def _count_sent(self) -> None:
        while len(self._out) >= 5 and len(self._out) > (size := int.from_bytes(self._out[1:5])):
            self._message(self._out[:1], bytes(self._out[5 : size + 1]))
            del self._out[: size + 1]

    def _message(self, kind: bytes | bytearray, body: bytes) -> None:
        if kind == b"Q":
            self._execute(nature(body))
            self.counts["round_trips"] += 1
        elif kind == b"P":
            name, text = body.split(b"\0", 2)[:2]
            self._prepared[name] = nature(text)
        elif kind == b"B":
            portal, name = body.split(b"\0", 2)[:2]
            self._portals[portal] = self._prepared.get(name, (False, False))
        elif kind == b"E":
            self._execute(self._portals.get(body.split(b"\0", 1)[0], (False, False)))
        elif kind == b"S":
            self.counts["round_trips"] += 1

    def _execute(self, kind: tuple[bool, bool]) -> None:
        control, writes = kind
        self.counts["control" if control else "statements"] += 1
        self._worked |= not control
        self._wrote |= writes

    def received(self, data: bytes) -> None:
        """Count what the server sends: ``ReadyForQuery`` says when a transaction has ended."""
        self.counts["bytes_received"] += len(data)
        self._in += data
        if self._in[:1] == b"N" and len(self._in) == 1:
            self._in.clear()
        while len(self._in) >= 5 and len(self._in) > (size := int.from_bytes(self._in[1:5])):
            if self._in[:1] == b"C":
                self._rolled_back |= self._in[5:13] == b"ROLLBACK"
            elif self._in[:1] == b"Z" and self._in[5:6] == b"I":
                self._transaction_ended()
            del self._in[: size + 1]

    def _transaction_ended(self) -> None:
        if self._worked and not self._rolled_back:
            self.counts["commits" if self._wrote else "read_transactions"] += 1
        self._wrote = self._worked = self._rolled_back = False


def nature(text: bytes) -> tuple[bool, bool]:
    """Return (is transaction control, writes). A ``SELECT`` that changes rows inside a function is not recognised."""
    # Pools send an empty statement to see whether a connection lives.
    is_control = EMPTY.match(text) is not None or CONTROL.match(text) is not None
    return is_control, WRITES.search(QUOTES.sub(b"", text)) is not None
