"""The Redis protocol, as far as counting needs it: commands and round trips."""

from __future__ import annotations

from collections import Counter


class RedisWire:
    """One connection. A round trip begins with the first bytes sent after the server has answered."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts, self.refusal = counts, b""
        self._out = bytearray()
        self._answered = True

    def sent(self, data: bytes) -> bytes:
        if self._answered:
            self.counts["redis_round_trips"] += 1
            self._answered = False
        self._out += data
        while (size := self._command()) > 0:
            del self._out[:size]
        return data

    def received(self, data: bytes) -> None:
        self._answered = True

    def _command(self) -> int:
        """Count the first complete command (``*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n``); return its size or 0."""
        end = self._out.find(b"\r\n")
        if end < 0 or self._out[:1] != b"*":
            return 0
        place, name = end + 2, ""
        for number in range(int(self._out[1:end])):
            end = self._out.find(b"\r\n", place)
            if end < 0 or len(self._out) < (after := end + 4 + int(self._out[place + 1 : end])):
                return 0
            if number == 0:
                name = bytes(self._out[end + 2 : after - 2]).decode().upper()
            place = after
        self.counts["redis_commands"] += 1
        self.counts[f"redis {name}"] += 1
        return place
