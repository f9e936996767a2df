"""Counting relays: a case connects to them instead of the servers, and everything sent is counted on the wire.

This needs no extension in the server and no privilege, works for every system alike, and sees nobody else's work.
Nothing is timed through a relay.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tests.benchmarks.wire_postgres import PostgresWire
from tests.benchmarks.wire_redis import RedisWire

Counts = Counter[str]
CHUNK = 1 << 16


class Wire(Protocol):
    """One connection's protocol: fed with the bytes of both directions, it adds to the counts."""

    refusal: bytes

    def sent(self, data: bytes) -> bytes: ...

    def received(self, data: bytes) -> None: ...


class Relay:
    """A relay to one server, on a port of its own; ``url`` is what a case connects to."""

    def __init__(self, url: str, port: int, make: Callable[[Counts], Wire]) -> None:
        self.counts: Counts = Counter()
        self._target, self._make = target_of(url, port), make
        self._url, self._port = url, 0

    async def open(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The server's URL with the relay's address, keeping user and database."""
        parts = urlsplit(self._url)
        query = {name: value for name, value in parse_qsl(parts.query) if name not in ("host", "port")}
        user = parts.netloc.rpartition("@")[0]
        place = f"{user}@127.0.0.1:{self._port}" if user else f"127.0.0.1:{self._port}"
        path = "" if parts.scheme == "unix" else parts.path
        scheme = "redis" if parts.scheme == "unix" else parts.scheme
        return urlunsplit((scheme, place, path, urlencode(query), ""))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = self._target
        if isinstance(place, str):
            there = await asyncio.open_unix_connection(place)
        else:
            there = await asyncio.open_connection(*place)
        wire = self._make(self.counts)
        ways = (self._send(reader, writer, there[1], wire), self._receive(there[0], writer, wire))
        await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, there[1]):
            each.close()

    async def _send(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, on: asyncio.StreamWriter, wire: Wire
    ) -> None:
        while data := await reader.read(CHUNK):
            passed = wire.sent(data)
            if wire.refusal:
                back.write(wire.refusal)
                wire.refusal = b""
            on.write(passed)
            await on.drain()

    async def _receive(self, reader: asyncio.StreamReader, on: asyncio.StreamWriter, wire: Wire) -> None:
        while data := await reader.read(CHUNK):
            wire.received(data)
            on.write(data)
            await on.drain()


def target_of(url: str, port: int) -> str | tuple[str, int]:
    """Return the path of a Unix socket, or host and port."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        return parts.path
    host, port = query.get("host") or parts.hostname or "127.0.0.1", int(query.get("port") or parts.port or port)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


@contextmanager
def relays(postgres: str, redis: str) -> Iterator[tuple[Relay, Relay]]:
    """Run a relay to each server in a thread of this process."""
    loop = asyncio.new_event_loop()
    made = (Relay(postgres, 5432, PostgresWire), Relay(redis, 6379, RedisWire))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        for relay in made:
            asyncio.run_coroutine_threadsafe(relay.open(), loop).result(5)
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Window:
    """The counts between the marks ``begin`` and ``end`` of a case."""

    def __init__(self, *relays: Relay) -> None:
        self._relays, self._begin = relays, Counter[str]()
        self.counts: Counts = Counter()

    def mark(self, name: str) -> None:
        now = sum((relay.counts for relay in self._relays), Counter())
        if name == "begin":
            self._begin = now
        else:
            self.counts = now - self._begin
