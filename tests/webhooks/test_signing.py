"""Signatures, checked by the library that receivers use."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from workflow_engine.kernel.webhooks.sending import WebhookMessage
from workflow_engine.kernel.webhooks.signing import new_secret, sign

BODY = b'{"type":"run.completed"}'


def signed(*secrets: str, body: bytes = BODY, at: int | None = None) -> dict[str, str]:
    at = int(time.time()) if at is None else at
    return {
        "webhook-id": "run:1",
        "webhook-timestamp": str(at),
        "webhook-signature": sign(secrets, "run:1", at, body),
    }


def test_the_example_of_the_specification_comes_out_the_same() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'

    assert sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_secret_is_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()

    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
    assert first != second


def test_a_receiver_accepts_what_is_signed() -> None:
    secret = new_secret()

    assert Webhook(secret).verify(BODY, signed(secret)) == json.loads(BODY)


@pytest.mark.parametrize("knows", [0, 1])
def test_during_a_rotation_a_receiver_may_know_either_secret(knows: int) -> None:
    secrets = new_secret(), new_secret()

    assert Webhook(secrets[knows]).verify(BODY, signed(*secrets)) == json.loads(BODY)


def test_what_was_altered_is_old_or_of_another_key_is_refused() -> None:
    secret, now = new_secret(), int(time.time())
    receiver = Webhook(secret)
    headers = signed(secret)

    for body, given in [
        (BODY.replace(b"completed", b"failed"), headers),
        (BODY, headers | {"webhook-id": "run:2"}),
        (BODY, headers | {"webhook-timestamp": str(now + 1)}),
        (BODY, signed(secret, at=now - int(timedelta(minutes=6).total_seconds()))),
        (BODY, signed(secret, at=now + int(timedelta(minutes=6).total_seconds()))),
        (BODY, signed(new_secret())),
        (BODY, signed(new_secret(), new_secret())),
    ]:
        with pytest.raises(WebhookVerificationError):
            receiver.verify(body, given)


def test_a_body_has_type_time_and_data() -> None:
    message = WebhookMessage("run:1", "run.completed", datetime(2026, 1, 2, tzinfo=UTC), {"text": "käse \ud83d"})

    assert json.loads(message.body) == {
        "type": "run.completed",
        "timestamp": "2026-01-02T00:00:00Z",
        "data": {"text": "käse \ud83d"},
    }
    assert message.body.isascii()
