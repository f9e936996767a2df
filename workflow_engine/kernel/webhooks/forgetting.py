"""What a webhook leaves behind that hears of nothing any more: deliveries that nobody makes, and letters to nobody."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Exists, QuerySet

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import transact
from workflow_engine.models import DeadLetter, EventCursor, WebhookDelivery, WebhookEndpoint
from workflow_engine.models.base import lock_rows
from workflow_engine.models.webhooks import PREFIX, names_of_webhooks

AT_ONCE, MOST_PAGES = 500, 200


def forget_after_commit(ports: Ports, causation_id: uuid.UUID, *, gone: uuid.UUID | None = None) -> None:
    """Let this process know after the commit, and delete what is left of an endpoint: its log too, if it is gone."""

    def forget() -> None:
        ports.subscribers.forget()
        forget_idle(ports, causation_id)
        if gone is not None:
            forget_log(ports, causation_id, gone)

    transaction.on_commit(forget, using=ports.using, robust=True)


def forget_idle(ports: Ports, causation_id: uuid.UUID) -> int:
    """Delete what is to be delivered to webhooks that are disabled or gone; return how much that was.

    The names are read before the endpoints: so one that is made meanwhile loses nothing.
    """
    cursors = EventCursor.objects.using(ports.using).filter(names_of_webhooks())
    letters = DeadLetter.objects.using(ports.using).filter(names_of_webhooks())
    waiting = set(cursors.order_by().values_list("subscriber", flat=True).distinct())
    written = set(letters.order_by().values_list("subscriber", flat=True).distinct())
    endpoints = WebhookEndpoint.objects.using(ports.using).filter(pk__in=_ids(waiting | written))
    active = {f"{PREFIX}{pk}": is_active for pk, is_active in endpoints.values_list("pk", "active")}
    forgotten = 0
    for name in waiting:
        if not active.get(name, False):
            forgotten += forget_deliveries(ports, causation_id, name)
    for name in written:
        if name not in active:
            forgotten += forget_letters(ports, causation_id, name)
        elif not active[name]:
            letters.filter(subscriber=name, replay_at__isnull=False).update(replay_at=None)
    return forgotten


def forget_deliveries(ports: Ports, causation_id: uuid.UUID, name: str) -> int:
    """Delete what a subscriber has still to hear of; whoever delivers to it finds its claim void."""
    rows = EventCursor.objects.using(ports.using).filter(subscriber=name)
    active = WebhookEndpoint.objects.using(ports.using).active().filter(pk__in=_ids([name]))
    # In the order in which others lock them; and not what it is to hear of if it is enabled meanwhile.
    return _delete_pages(ports, causation_id, rows.order_by("run_id", "subscriber").exclude(Exists(active)))


def forget_letters(ports: Ports, causation_id: uuid.UUID, name: str) -> int:
    rows = DeadLetter.objects.using(ports.using).filter(subscriber=name)
    return _delete_pages(ports, causation_id, rows.order_by("id"))


def forget_log(ports: Ports, causation_id: uuid.UUID, endpoint_id: uuid.UUID) -> int:
    """Delete the deliveries of an endpoint that is gone; what is left of a very long log goes by its age."""
    rows = WebhookDelivery.objects.using(ports.using).filter(endpoint=endpoint_id)
    return _delete_pages(ports, causation_id, rows.order_by("id"))


def _delete_pages(ports: Ports, causation_id: uuid.UUID, rows: QuerySet[Any]) -> int:
    def step(_: object) -> int:
        ids = list(lock_rows(rows, skip_locked=True).values_list("pk", flat=True)[:AT_ONCE])
        return int(rows.model._default_manager.using(ports.using).filter(pk__in=ids)._raw_delete(ports.using) or 0)

    deleted = 0
    for _page in range(MOST_PAGES):
        found = transact(ports, causation_id, step)
        deleted += found
        if found < AT_ONCE:
            break
    return deleted


def forget_old_secrets(ports: Ports) -> int:
    """Delete previous secrets whose time is over."""
    old = WebhookEndpoint.objects.using(ports.using).filter(previous_until__lte=ports.clock.db_now())
    # They are seldom, and a write makes others wait on SQLite.
    return old.update(previous_secret="", previous_until=None) if old.exists() else 0


def _ids(names: Iterable[str]) -> list[uuid.UUID]:
    found = []
    for name in names:
        try:
            found.append(uuid.UUID(name.removeprefix(PREFIX)))
        except ValueError:
            continue
    return found
