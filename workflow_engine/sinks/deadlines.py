"""Sockets whose every step must be over by one moment, however slowly the other side feeds them."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Questions for the address of a name that have not come back; more are not asked meanwhile.
MOST_HANGING = 32
Resolve = Callable[[str, int], list[str]]
_asking = threading.Semaphore(MOST_HANGING)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of this process's clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds that are left. Raises ``TimeoutError``."""
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class DeadlineSocket:
    """As much of a socket as ``http.client`` uses."""

    def __init__(self, sock: socket.socket | ssl.SSLSocket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline))

    def close(self) -> None:
        """Leave it open: ``http.client`` says this while the answer is still read."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which the system prefers them. Raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def resolve_by(host: str, port: int, deadline: Deadline, ask: Resolve) -> list[str]:
    """``resolve`` in time: the system's own question cannot be given up, so it is asked in a thread that can be.

    Raises:
        OSError: there is no such name, or (``TimeoutError``) nobody answers.
    """
    if not _asking.acquire(timeout=deadline.left()):
        raise TimeoutError
    answer: list[list[str] | OSError] = []
    come = threading.Event()

    def run() -> None:
        try:
            answer.append(ask(host, port))
        except OSError as error:
            answer.append(error)
        except (UnicodeError, ValueError) as error:
            answer.append(OSError(f"{type(error).__name__}: {error}"))
        finally:
            _asking.release()
            come.set()

    threading.Thread(target=run, name="wfe-resolve", daemon=True).start()
    if not come.wait(deadline.left()):
        raise TimeoutError
    (found,) = answer
    if isinstance(found, OSError):
        raise found
    return found
