"""JSON lines over a socket, between a worker and the processes that run bodies for it."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any

CHUNK = 256 * 1024


class Channel:
    """One end. One thread may send while another receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._received: list[bytes] = []
        self._lines: list[bytes] = []

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises ``OSError`` if the other end is gone."""
        self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message, None if none is complete within ``seconds``.

        Raises:
            EOFError: the other end is gone.
        """
        while not self._lines:
            if not self._poll.poll(seconds * 1000):
                return None
            self._read()
        message: dict[str, Any] = json.loads(self._lines.pop(0))
        return message

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        try:
            chunk = self._socket.recv(CHUNK)
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise EOFError
        first, *others = chunk.split(b"\n")
        self._received.append(first)
        for part in others:
            self._lines.append(b"".join(self._received))
            self._received = [part]
