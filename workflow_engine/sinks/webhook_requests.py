"""Requests to webhooks: to the very address that was checked, in bounded time, with bounded answers.

By Python's own ``http.client``. No proxy of the environment is asked, no redirect is followed, nothing is decompressed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from ipaddress import ip_address

from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.kernel.webhooks.targets import BadTarget, Target, TargetRules, check_address

from .deadlines import Deadline, DeadlineSocket, Resolve, resolve, resolve_by

# Of the answer's body; more is not read.
MOST_BYTES, PIECE = 16 * 1024, 4096
# Of the addresses of a name.
MOST_ADDRESSES = 3


class Requests:
    """Sends webhooks. A name is resolved for each request, and its addresses are checked each time."""

    def __init__(
        self,
        rules: TargetRules,
        *,
        timeout: float,
        ask: Resolve = resolve,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """``timeout``: seconds for all of a request. ``ask`` and ``context`` are for tests."""
        self._rules, self._timeout, self._ask = rules, timeout, ask
        self._context = context

    def send(self, target: Target, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        began, deadline = time.monotonic(), Deadline.after(self._timeout)
        timed_out = False
        try:
            status, retry_after, content = self._exchange(target, headers, body, deadline)
        except TimeoutError:
            error, timed_out = f"No answer within {self._timeout:g} s.", True
        except BadTarget as problem:
            error = f"The URL {problem}."
        except ssl.SSLCertVerificationError as problem:
            error = f"Its certificate is not valid: {problem.verify_message}."
        except (OSError, http.client.HTTPException) as problem:
            error = f"{type(problem).__name__}: {problem}"
        else:
            return WebhookAnswer(status=status, body=content, retry_after=retry_after, duration_ms=_milliseconds(began))
        return WebhookAnswer(error=error, duration_ms=_milliseconds(began), timed_out=timed_out)

    def _exchange(
        self, target: Target, headers: Mapping[str, str], body: bytes, deadline: Deadline
    ) -> tuple[int, str, bytes]:
        sock = self._connect(target, deadline)
        connection = http.client.HTTPConnection(target.host, target.port)
        try:
            if target.scheme == "https":
                sock.settimeout(deadline.left())
                sock = self._tls().wrap_socket(sock, server_hostname=target.host.rstrip("."))
            connection.sock = DeadlineSocket(sock, deadline)
            connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": target.authority, "Connection": "close", **headers}.items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            with connection.getresponse() as response:
                return response.status, response.headers.get("Retry-After", ""), _beginning(response)
        finally:
            connection.close()
            sock.close()

    def _connect(self, target: Target, deadline: Deadline) -> socket.socket:
        """Connect to the first address that may be and answers. Raises ``OSError``, ``BadTarget``."""
        last: Exception = OSError("The name has no address.")
        for address in self._addresses(target, deadline)[:MOST_ADDRESSES]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(deadline.left())
                sock.connect((address, target.port))
                # Head and body are sent apart; the one is not to wait for the other to be acknowledged.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                sock.close()
                last = error
        raise last

    def _addresses(self, target: Target, deadline: Deadline) -> list[str]:
        """Return the addresses that the rules allow. Raises ``BadTarget`` if there is none."""
        try:
            found = [str(ip_address(target.host))]
        except ValueError:
            found = resolve_by(target.host, target.port, deadline, self._ask)
        allowed, refused = [], None
        for address in found:
            try:
                check_address(ip_address(address), self._rules)
            except BadTarget as error:
                refused = error
            else:
                allowed.append(address)
        if refused is not None and not allowed:
            raise refused
        return allowed

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


def _beginning(response: http.client.HTTPResponse) -> bytes:
    """Read a little of the answer. Its status has decided, so a body that breaks off or never ends changes nothing."""
    content = b""
    try:
        while len(content) < MOST_BYTES and (piece := response.read1(PIECE)):
            content += piece
    except (OSError, http.client.HTTPException):
        pass
    return content


def _milliseconds(began: float) -> int:
    return round(1000 * (time.monotonic() - began))
