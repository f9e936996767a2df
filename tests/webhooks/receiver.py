"""A real receiver of webhooks on this computer, which may behave badly."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behave = Callable[["Received"], str]


@dataclass(frozen=True, slots=True)
class Received:
    """One request, and how it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    answered: str = ""

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Keeps what it gets. ``behave`` says how a request is answered: see ``_Handler``."""

    behave: Behave = lambda request: "200"
    received: list[Received] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0
    under_way: int = 0
    most_under_way: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def accepted(self) -> list[Received]:
        return [request for request in self.received if request.answered.startswith("2")]


class _Handler(BaseHTTPRequestHandler):
    """Answers with a status, or as one of its methods ``be_…`` does."""

    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            # Whoever was sending it has died.
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver = self.receiver
        with receiver.lock:
            how = receiver.behave(Received(self.path, headers, body))
            receiver.received.append(Received(self.path, headers, body, how))
            receiver.under_way += 1
            receiver.most_under_way = max(receiver.most_under_way, receiver.under_way)
        try:
            self.close_connection = True
            word, _, argument = how.partition(" ")
            getattr(self, f"be_{word.replace('-', '_')}", lambda argument: self.be_status(word, argument))(argument)
        except OSError:
            pass
        finally:
            with receiver.lock:
                receiver.under_way -= 1

    do_GET = do_POST

    def be_status(self, word: str, argument: str) -> None:
        content = f"answer {word}".encode()
        self.send_response(int(word))
        if argument:
            self.send_header("Retry-After", argument)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def be_hang(self, argument: str) -> None:
        self.receiver.let_go.wait(60)

    def be_reset(self, argument: str) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def be_redirect(self, argument: str) -> None:
        self.send_response(302)
        self.send_header("Location", argument or f"http://127.0.0.1:{self.receiver.port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def be_endless(self, argument: str) -> None:
        self.send_response(int(argument or 500))
        self.end_headers()
        while not self.receiver.let_go.is_set():
            self.wfile.write(b"x" * 4096)

    def be_drip(self, argument: str) -> None:
        self.send_response(int(argument or 500))
        self.end_headers()
        while not self.receiver.let_go.wait(0.02):
            self.wfile.write(b"x")

    def be_drip_headers(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.receiver.let_go.wait(0.02):
            self.wfile.write(b"x")

    def be_break(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")

    def be_nonsense(self, argument: str) -> None:
        self.wfile.write(b"hello\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def receiving(behave: Behave = lambda request: "200", *, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive webhooks on a port of this computer."""
    receiver = Receiver(behave)
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = _Server(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
