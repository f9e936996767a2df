"""Hostile requests to the API: a problem of the 400s or an answer, never a 500, and nothing that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from tests.api.conftest import BASE, JSONClient
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

from .corpus import CANARY, VALUES
from .entries import ANY
from .reading import read_api, read_rows, reader

# The API refuses before it asks the database.
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
# As bytes: what is no JSON, or what a parser makes of it is no longer what was sent.
RAW: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" \n",
    "no end": b'{"a": [',
    "nan": b"NaN",
    "infinity": b"-Infinity",
    "nan inside": b'{"a": [NaN], "password": "%s"}' % CANARY.encode(),
    "too large a float": b"1e5000",
    "too small a float": b"1e-5000",
    "400 digits": b"9" * 400,
    "1,001 digits": b"9" * 1001,
    "5,000 digits": b"9" * 5000,
    "minus zero": b"-0",
    "nul": b'"a\\u0000b"',
    "raw nul": b'"a\x00b"',
    "half a pair": b'"\\ud83d"',
    "half a pair as a key": b'{"\\udfff": 1}',
    "halves the wrong way": b'"\\ude00\\ud83d"',
    "a pair": b'"\\ud83d\\ude00"',
    "no utf-8": b'"\xff\xfe"',
    "overlong": b'"\xc0\x80"',
    "surrogates in utf-8": b'"\xed\xa0\x80"',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "utf-32": '{"a": 1}'.encode("utf-32-be"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "key twice": b'{"a": 1, "a": 2}',
    "65 deep": b"[" * 65 + b"]" * 65,
    "1,100 deep": b"[" * 1100 + b"]" * 1100,
    "100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "dunder": b'{"__proto__": {"a": 1}, "constructor": 1, "__class__": 1}',
    "control characters": b'"\\u0001\\u001b[31m\\u007f"',
    "markup": b'"<script>alert(1)</script>"',
    "trailing comma": b'{"a": 1,}',
    "comment": b'{"a": 1} // b',
    "pickle": b"\x80\x04K\x01.",
}
# Where in a body the value stands.
BODIES: dict[str, tuple[str, bytes]] = {
    "itself": ("runs/", b"%s"),
    "input": ("runs/", b'{"workflow_id": "any", "input": %s}'),
    "metadata": ("runs/", b'{"workflow_id": "any", "metadata": {"a": %s}}'),
    "metadata itself": ("runs/", b'{"workflow_id": "any", "metadata": %s}'),
    "annotations": ("runs/", b'{"workflow_id": "any", "annotations": %s}'),
    "config": ("runs/", b'{"workflow_id": "any", "config": {"ask": {"any": %s}}}'),
    "priority": ("runs/", b'{"workflow_id": "any", "priority": %s}'),
    "run_at": ("runs/", b'{"workflow_id": "any", "run_at": %s}'),
    "workflow_id": ("runs/", b'{"workflow_id": %s}'),
    "items": ("runs/bulk/", b'{"items": [{"workflow_id": "any", "input": %s}]}'),
    "items' keys": ("runs/bulk/", b'{"items": [{"workflow_id": "any", "idempotency_key": %s}]}'),
    "operation": ("bulk-operations/", b'{"action": "cancel", "filter": {"workflow": %s}}'),
    "operation ids": ("bulk-operations/", b'{"action": "cancel", "filter": {"ids": [%s]}}'),
    "operation reason": ("bulk-operations/", b'{"action": "cancel", "filter": {"workflow": "any"}, "reason": %s}'),
    "schedule": ("schedules/", b'{"name": "s", "workflow_id": "any", "cron": "0 0 * * *", "input": %s}'),
    "schedule name": ("schedules/", b'{"name": %s, "workflow_id": "any", "cron": "0 0 * * *"}'),
    "schedule cron": ("schedules/preview/", b'{"cron": %s}'),
    "schedule zone": ("schedules/preview/", b'{"cron": "0 0 * * *", "timezone": %s}'),
    "webhook": ("webhooks/", b'{"url": %s}'),
    "webhook text": ("webhooks/", b'{"url": "https://example.com/", "description": %s}'),
    "webhook events": ("webhooks/", b'{"url": "https://example.com/", "events": [%s]}'),
    "dead letters": ("dead-letters/replay/", b'{"subscriber": %s}'),
    "answer": ("runs/{run}/stages/ask/answer/", b'{"data": %s}'),
    "answer wait": ("runs/{run}/stages/ask/answer/", b'{"data": 1, "wait": %s}'),
    "answer item": ("runs/{run}/stages/ask/answer/", b'{"data": 1, "item": %s}'),
    "rerun": ("runs/{run}/rerun/", b'{"stage_id": "ask", "config": {"ask": {"any": %s}}}'),
    "rerun stage": ("runs/{run}/rerun/", b'{"stage_id": %s}'),
    "pause": ("runs/{run}/pause/", b'{"reason": %s}'),
    "cancel": ("runs/{run}/cancel/", b'{"reason": %s}'),
}
LISTS = ["runs/", "workflows/", "bulk-operations/", "schedules/", "scheduled-commands/", "dead-letters/", "webhooks/"]
# One of each kind for a parser: each costs a request for each parameter of each list.
KINDS = [
    "empty text",
    "nul",
    "half a pair",
    "emoji",
    "control characters",
    "300 letters",
    "quotes",
    "percent",
    "date at the edge",
]
PARAMETERS = [
    "status",
    "workflow",
    "created_after",
    "cursor",
    "limit",
    "page_size",
    "ordering",
    "search",
    "id",
    "_connector",
]
TEXTS = [name for name, make in VALUES.items() if isinstance(make(), str) and len(make()) < 1_000]


@pytest.fixture
def client(known: Any, host: InlineHost) -> JSONClient:
    known(ANY)
    client = JSONClient(raise_request_exception=True)
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def asking(client: JSONClient, host: InlineHost) -> WorkflowRun:
    run = create_run(ANY)
    host.drain(run.pk)
    return run


def check(answer: Any, what: str) -> None:
    assert answer.status_code < 500, what
    if answer.status_code >= 400:
        assert answer["Content-Type"] in ("application/problem+json", "text/html; charset=utf-8"), what
        assert CANARY.encode() not in answer.content, what
        assert b"Traceback" not in answer.content, what


@pytest.mark.parametrize("where", BODIES)
def test_a_body_is_taken_or_refused(where: str, client: JSONClient, asking: WorkflowRun) -> None:
    address, body = BODIES[where]
    address = address.replace("{run}", str(asking.pk))

    for name, raw in RAW.items():
        content = body.replace(b"%s", raw)
        check(client.send(address, content, headers={"Idempotency-Key": f"{name}"}), name)

    eyes = reader()
    read_rows(eyes, WorkflowRun, most=30, every=10)
    if (resource := address.split("/")[0]) != "bulk-operations":
        read_api(eyes, resource)
    for run in WorkflowRun.objects.order_by("-pk")[::4]:
        read_api(eyes, "run", run_id=run.pk)


def odd_texts(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        yield name, quote(VALUES[name](), errors="surrogatepass")
    yield from (("no utf-8", "%FF%FE"), ("a percent sign", "%"), ("plus", "+"), ("twice", "a&status=b"))


@pytest.mark.parametrize("address", LISTS)
def test_a_query_is_answered_or_refused(address: str, client: JSONClient) -> None:
    for name, text in odd_texts(KINDS):
        # One at a time: what one filter refuses is not looked at by the next.
        for parameter in PARAMETERS:
            check(client.get(f"{BASE}{address}?{parameter}={text}"), f"{parameter}: {name}")
        check(client.get(f"{BASE}{address}?{text}=1"), f"key: {name}")


def test_an_id_is_found_or_not(client: JSONClient, asking: WorkflowRun) -> None:
    for name, text in odd_texts(TEXTS):
        for address in (
            "runs/{}/",
            "workflows/{}/",
            "schedules/{}/",
            "webhooks/{}/",
            f"runs/{asking.pk}/stages/{{}}/items/",
        ):
            check(client.get(BASE + address.format(text)), f"{address}: {name}")
            check(client.send(address.format(text), b"{}"), f"{address}: {name}")


def test_headers_are_taken_or_refused(client: JSONClient) -> None:
    body = json.dumps({"workflow_id": "any"}).encode()
    for name in TEXTS:
        text = VALUES[name]().encode("utf-8", "surrogatepass").decode("latin-1")
        for header in ("Idempotency-Key", "If-Match", "Accept", "Accept-Language", "X-Request-ID"):
            check(client.send("runs/", body, headers={header: text}), f"{header}: {name}")
