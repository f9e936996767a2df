"""One request to a webhook: made outside of any transaction, and what came of it written down."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper

from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports, WebhookAnswer
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WebhookDelivery, WebhookEndpoint

from .forgetting import forget_after_commit
from .signing import sign
from .targets import BadTarget, target_of

logger = logging.getLogger(__name__)
GONE, BUSY = 410, (429, 503)
# An endpoint that fails so often in a row rests, ever longer; one that does not even answer in time does at once.
PATIENCE, FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 5, 1.0, 60.0
# What is asked for by Retry-After counts within these bounds.
LEAST_WAIT_SECONDS, MOST_WAIT_SECONDS = 1.0, 3600.0
MOST_ERROR, MOST_RESPONSE = 500, 1000


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """What is sent: an event, or a test. ``data`` is JSON."""

    id: str
    type: str
    occurred_at: datetime
    data: dict[str, Any]
    run_id: uuid.UUID | None = None
    attempt: int = 1

    @property
    def body(self) -> bytes:
        content = {"type": self.type, "timestamp": iso(self.occurred_at), "data": self.data}
        return json.dumps(content, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. ``after`` and ``rest`` are those of ``DeliveryRefused``."""

    delivered: bool
    status: int | None = None
    duration_ms: int = 0
    error: str = ""
    response: str = ""
    after: float = 0.0
    rest: float = 0.0


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def find_endpoint(ports: Ports, endpoint_id: uuid.UUID) -> WebhookEndpoint | None:
    """Return the endpoint as it is now, with the time at which it was read as ``read_at``."""
    now = ports.clock.db_now()
    rows = WebhookEndpoint.objects.using(ports.using).filter(pk=endpoint_id)
    if ports.is_frozen:
        endpoint = rows.first()
        if endpoint is not None:
            endpoint.read_at = now
        return endpoint
    timed = rows.annotate(time_of_reading=ExpressionWrapper(now, DateTimeField())).first()
    if timed is not None:
        timed.read_at = timed.time_of_reading
    return timed


def post(ports: Ports, endpoint: Any, message: WebhookMessage) -> WebhookAnswer:
    """Make the request; never raises for what is wrong with the address or the answer."""
    try:
        target = target_of(endpoint.url, ports.limits.webhook_targets)
    except BadTarget as error:
        # The settings may have become stricter.
        return WebhookAnswer(error=f"The URL {error}.")
    body, timestamp = message.body, int(endpoint.read_at.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "workflow_engine (+Standard Webhooks 1.0)",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(endpoint.live_secrets(endpoint.read_at), message.id, timestamp, body),
    }
    return ports.sender.send(target, headers, body)


def outcome_of(answer: WebhookAnswer, failures_before: int, now: datetime) -> Outcome:
    """Say what an answer means after so many failures in a row."""
    delivered = answer.status is not None and 200 <= answer.status < 300
    after = rest = 0.0
    if not delivered:
        number = failures_before + (PATIENCE if answer.timed_out else 1)
        if number >= PATIENCE:
            rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** min(number - PATIENCE, 10))
        if answer.status in BUSY and (wait := retry_after(answer.retry_after, now)) is not None:
            after, rest = wait, max(rest, wait)
    return Outcome(
        delivered=delivered,
        status=answer.status,
        duration_ms=answer.duration_ms,
        error="" if delivered else _problem(answer),
        response=scrub(answer.body[:MOST_RESPONSE].decode("utf-8", "replace")),
        after=after,
        rest=rest,
    )


def _problem(answer: WebhookAnswer) -> str:
    if answer.status is None:
        return str(scrub(answer.error))[:MOST_ERROR]
    if 300 <= answer.status < 400:
        return f"{answer.status}: redirects are not followed; the URL must be that of the receiver itself."
    return f"{answer.status}: only 2xx counts as delivered."


def retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, within bounds; None: it says nothing that can be read."""
    text = text.strip()[:100]
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return min(MOST_WAIT_SECONDS, max(LEAST_WAIT_SECONDS, seconds))


def note(
    ports: Ports, causation_id: uuid.UUID, endpoint: WebhookEndpoint, message: WebhookMessage, outcome: Outcome
) -> None:
    """Write a request into the log, and what follows from it for its endpoint (of a test: nothing)."""
    points.hit(points.WEBHOOK_SENT)

    def step(work: UnitOfWork) -> str | None:
        _log(work, endpoint, message, outcome)
        is_last = message.attempt >= ports.limits.webhook_max_attempts
        return None if message.run_id is None else _judge(work, endpoint, outcome, is_last=is_last)

    reason = transact(ports, causation_id, step)
    if reason is not None:
        logger.warning("webhook disabled endpoint=%s host=%s reason=%s", endpoint.pk, endpoint.host, reason)


def _log(work: UnitOfWork, endpoint: WebhookEndpoint, message: WebhookMessage, outcome: Outcome) -> None:
    WebhookDelivery.objects.using(work.ports.using).create(
        endpoint_id=endpoint.pk,
        event_id=message.id,
        type=message.type,
        run_id=message.run_id,
        attempt=message.attempt,
        delivered=outcome.delivered,
        status=outcome.status,
        duration_ms=outcome.duration_ms,
        error=outcome.error,
        response=outcome.response,
        url=endpoint.url.partition("?")[0],
        sent_at=work.ports.clock.db_now(),
    )


def _judge(work: UnitOfWork, endpoint: WebhookEndpoint, outcome: Outcome, *, is_last: bool) -> str | None:
    """Count a failure, or forget those before a success; return why the endpoint was disabled, if it was.

    ``is_last``: the event is given up. Before that it may be a failure that passes, however long ago the last one was.
    """
    rows = WebhookEndpoint.objects.using(work.ports.using).filter(pk=endpoint.pk)
    now = work.ports.clock.db_now()
    if outcome.delivered:
        if endpoint.failures:
            rows.note_success()
        return None
    rows.note_failure(now, timedelta(seconds=outcome.rest) if outcome.rest else None)
    reason = None
    if outcome.status == GONE:
        reason = "It answered 410 Gone: nothing is to be sent there any more."
    elif is_last:
        days = work.ports.limits.webhook_disable_days
        found = rows.filter(failing_since__lte=now - timedelta(days=days)).values_list("failures", flat=True).first()
        if found is not None:
            reason = f"It failed for {days:g} days without a success ({found} times). The last error: {outcome.error}"
    if reason is None or not rows.disable(now, reason):
        return None
    forget_after_commit(work.ports, work.causation_id)
    return reason
