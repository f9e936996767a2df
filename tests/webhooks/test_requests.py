"""Requests: to the address that was checked and to no other, in bounded time, whatever the other side does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.sending import LOCAL
from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.kernel.webhooks.targets import TargetRules, target_of
from workflow_engine.sinks import deadlines
from workflow_engine.sinks.webhook_requests import MOST_BYTES, Requests

# A key and its certificate, for hooks.example.com only.
CERTIFICATE = Path(__file__).parent / "hooks.example.com.pem"
STRICT = TargetRules(ports=())


def send(url: str, *, timeout: float = 5, body: bytes = b"{}", **options: object) -> WebhookAnswer:
    requests = Requests(LOCAL, timeout=timeout, **options)  # type: ignore[arg-type]
    return requests.send(target_of(url, LOCAL), {"webhook-id": "a"}, body)


@pytest.fixture
def receive() -> Iterator[Callable[[str], Receiver]]:
    with ExitStack() as stack:
        yield lambda how: stack.enter_context(receiving(lambda request: how))


def test_a_request_has_what_it_was_given_and_nothing_of_ours(receive: Callable[[str], Receiver]) -> None:
    receiver = receive("201")

    answer = send(receiver.url + "?a=1", body=b'{"a":1}')

    assert (answer.status, answer.body, answer.error) == (201, b"answer 201", "")
    (request,) = receiver.received
    assert (request.path, request.body) == ("/hook?a=1", b'{"a":1}')
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "connection": "close",
        "content-length": "7",
        "webhook-id": "a",
    }


def test_a_redirect_is_not_followed(receive: Callable[[str], Receiver]) -> None:
    receiver = receive("redirect")

    assert send(receiver.url).status == 302
    assert len(receiver.received) == 1


def test_no_proxy_of_the_environment_is_asked(
    receive: Callable[[str], Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, receiver = receive("500"), receive("200")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)

    assert send(receiver.url).status == 200
    assert not proxy.received


@pytest.mark.parametrize("how", ["hang", "drip-headers"])
def test_who_does_not_answer_in_time_has_not_answered(receive: Callable[[str], Receiver], how: str) -> None:
    began = time.monotonic()

    answer = send(receive(how).url, timeout=0.4)

    assert (answer.status, answer.timed_out, answer.error) == (None, True, "No answer within 0.4 s.")
    assert 0.4 <= time.monotonic() - began < 3


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_that_never_comes_to_its_end_is_left_at_the_end_of_the_time(
    receive: Callable[[str], Receiver], status: int
) -> None:
    began = time.monotonic()

    answer = send(receive(f"drip {status}").url, timeout=0.4)

    assert answer.status == status
    assert 0 < len(answer.body) < 100
    assert time.monotonic() - began < 3


def test_of_an_endless_body_only_the_beginning_is_read(receive: Callable[[str], Receiver]) -> None:
    answer = send(receive("endless").url)

    assert answer.status == 500
    assert MOST_BYTES <= len(answer.body) < MOST_BYTES + 5000


def test_a_body_that_breaks_off_changes_nothing(receive: Callable[[str], Receiver]) -> None:
    answer = send(receive("break").url)

    assert (answer.status, answer.body) == (200, b"short")


@pytest.mark.parametrize("how", ["reset", "nonsense"])
def test_what_is_no_answer_is_an_error_with_words(receive: Callable[[str], Receiver], how: str) -> None:
    answer = send(receive(how).url)

    assert answer.status is None
    assert answer.error
    assert not answer.timed_out


def test_where_nobody_listens_that_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = send(f"http://127.0.0.1:{taken.getsockname()[1]}/")

    assert answer.status is None
    assert "ConnectionRefusedError" in answer.error


class Names:
    """A resolver that answers one thing after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers, self.asked = list(answers), 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::1"]
)
def test_a_name_of_an_address_that_is_not_public_is_refused(address: str) -> None:
    requests = Requests(STRICT, timeout=5, ask=Names([address]))

    answer = requests.send(target_of("https://hooks.example.com/", STRICT), {}, b"")

    assert answer.status is None
    assert "must not be at" in answer.error


def test_a_name_is_asked_for_and_checked_at_each_request(receive: Callable[[str], Receiver]) -> None:
    # A name that was fine when the webhook was made, and then is one of an inner address.
    receiver, names = receive("200"), Names(["8.8.8.8"], ["127.0.0.1"])
    requests = Requests(TargetRules(allow_http=True, ports=()), timeout=0.01, ask=names)
    target = target_of(f"http://hooks.example.com:{receiver.port}/", TargetRules(allow_http=True, ports=()))

    requests.send(target, {}, b"")
    answer = requests.send(target, {}, b"")

    assert "must not be at 127.0.0.1" in answer.error
    assert names.asked == 2
    assert not receiver.received


def test_of_several_addresses_only_those_that_may_be_are_tried(receive: Callable[[str], Receiver]) -> None:
    # One lookup for the check and another for the connection could differ: there is only one.
    receiver, names = receive("200"), Names(["127.0.0.1", "::1"], ["192.0.2.1"])
    requests = Requests(LOCAL, timeout=5, ask=names)

    answer = requests.send(target_of(f"http://hooks.example.com:{receiver.port}/", LOCAL), {}, b"")

    assert answer.status == 200
    assert names.asked == 1
    assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(receive: Callable[[str], Receiver]) -> None:
    receiver = receive("200")

    answer = send(f"http://hooks.example.com:{receiver.port}/", ask=Names(["127.0.0.2", "127.0.0.1"]))

    assert answer.status == 200


@pytest.mark.parametrize("problem", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_nobody_knows_is_an_error_with_words(problem: Exception) -> None:
    def fails(host: str, port: int) -> list[str]:
        raise problem

    answer = send("http://hooks.example.com/", ask=fails)

    assert answer.status is None
    assert str(problem) in answer.error


def test_a_question_for_a_name_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(deadlines, "_asking", threading.Semaphore(1))

    def hangs(host: str, port: int) -> list[str]:
        let_go.wait(30)
        return ["127.0.0.1"]

    try:
        # The second one is not even asked.
        answers = [send("http://hooks.example.com/", timeout=0.2, ask=hangs) for _ in range(2)]
    finally:
        let_go.set()

    assert [answer.timed_out for answer in answers] == [True, True]


@pytest.fixture
def https() -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with receiving(context=context) as receiver:
        yield receiver


def test_tls_is_for_the_name_while_the_connection_is_to_the_address(https: Receiver) -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    here = Names(["127.0.0.1"])

    answer = send(f"https://hooks.example.com:{https.port}/", ask=here, context=trusting)
    other = send(f"https://other.example.com:{https.port}/", ask=here, context=trusting)
    unknown = send(f"https://hooks.example.com:{https.port}/", ask=here)

    assert (answer.status, answer.error) == (200, "")
    assert https.received[0].headers["host"] == f"hooks.example.com:{https.port}"
    assert "certificate is not valid: Hostname mismatch" in other.error
    assert "certificate is not valid: self-signed" in unknown.error
    assert len(https.received) == 1


def test_a_handshake_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = send(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.3)

    assert answer.timed_out
