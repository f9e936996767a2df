"""What is still to be delivered: how far each subscriber has heard of each run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, transaction
from django.db.models import F, Value
from django.utils.translation import gettext_lazy as _

from .base import lock_rows
from .compiled import FIRST_PLACE, THIS_SUBSCRIBER, change_rows, padded, rows_of
from .runs import WorkflowRun


@dataclass(frozen=True, slots=True)
class News:
    """A subscriber is to hear of a run's events from ``first`` to ``last``."""

    run_id: Any
    subscriber: str
    first: int
    last: int


class EventCursorQuerySet(models.QuerySet["EventCursor"]):
    def due(self, now: Any, subscriber: str | None = None) -> EventCursorQuerySet:
        """Cursors to go on with now, the longest waiting first."""
        rows = self if subscriber is None else self.filter(subscriber=subscriber)
        return rows.filter(due_at__lte=now).order_by("due_at", "id")

    def add(self, news: Iterable[News], at: datetime) -> None:
        """Write down what is to be delivered; where something is already, only how far that goes changes.

        The caller holds the events: so what comes later is told later, and ``last`` never goes back.
        """
        # In one order, so that two who write do not wait for each other.
        ordered = sorted(news, key=lambda new: (str(new.run_id), new.subscriber))
        rows = [
            EventCursor(
                run_id=new.run_id,
                subscriber=new.subscriber,
                last_sequence=new.first - 1,
                target=new.last,
                due_at=at,
            )
            for new in ordered
        ]
        targeted = connections[self.db].features.supports_update_conflicts_with_target
        unique = ["run", "subscriber"] if targeted else None
        EventCursor.objects.using(self.db).bulk_create(
            rows, update_conflicts=True, update_fields=["target"], unique_fields=unique
        )

    def claim(self, subscriber: str, most: int, *, now: Any, lease: timedelta) -> list[EventCursor]:
        """Take cursors that are due for as long as ``lease``; nobody else delivers from them meanwhile."""
        with transaction.atomic(using=self.db):
            rows = self._lock_due(subscriber, most, now)
            if rows:
                self._take(rows, now + lease, lease if hasattr(now, "resolve_expression") else None)
        for row in rows:
            row.token += 1
        return rows

    def _lock_due(self, subscriber: str, most: int, now: Any) -> list[EventCursor]:
        names = [field.attname for field in EventCursor._meta.concrete_fields]

        def build() -> models.QuerySet[Any]:
            rows = EventCursor.objects.using(self.db).due(now, THIS_SUBSCRIBER)
            return lock_rows(rows, skip_locked=True).values_list(*names)[:most]

        keep = hasattr(now, "resolve_expression")
        found = rows_of(self.db, ("due cursors", most), build, places={THIS_SUBSCRIBER: subscriber}, keep=keep)
        return [EventCursor.from_db(self.db, names, row) for row in found]

    def _take(self, rows: Sequence[EventCursor], until: Any, key: timedelta | None) -> None:
        """Give all of them a new token; ``key`` stands for ``until``, None: it is a time, good for this once."""
        wanted = padded([row.pk for row in rows])
        places = range(FIRST_PLACE, FIRST_PLACE + len(wanted))
        change_rows(
            self.db,
            ("take cursors", len(wanted), key),
            lambda: (
                EventCursor.objects.using(self.db).filter(pk__in=places),
                {"token": F("token") + 1, "due_at": until},
            ),
            places=dict(zip(places, wanted, strict=True)),
            keep=key is not None,
        )

    def _lock_again(self, cursors: Sequence[EventCursor]) -> dict[int, tuple[int, int]]:
        """Return the token and the target of those that are still there."""
        wanted = padded([row.pk for row in cursors])
        places = range(FIRST_PLACE, FIRST_PLACE + len(wanted))

        def build() -> models.QuerySet[Any]:
            # In the order in which news are added, so that the two do not wait for each other.
            rows = EventCursor.objects.using(self.db).filter(pk__in=places).order_by("run_id", "subscriber")
            return lock_rows(rows).values_list("pk", "token", "target")

        key, meant = ("claimed cursors", len(wanted)), dict(zip(places, wanted, strict=True))
        return {pk: (token, target) for pk, token, target in rows_of(self.db, key, build, places=meant)}

    def settle(self, cursors: Sequence[EventCursor], *, now: Any) -> tuple[set[int], bool]:
        """Write down how far deliveries have come; return the ids of those whose claim still counted, and whether
        something of them is due now.

        What has come to its end is deleted; what is left is due again, or at the time at which it is tried again.
        """
        locked = self._lock_again(cursors) if cursors else {}
        ended: list[EventCursor] = []
        left: list[EventCursor] = []
        for row in cursors:
            token, target = locked.get(row.pk, (None, 0))
            if token == row.token:
                # More may have come since it was claimed.
                (ended if row.last_sequence >= target else left).append(row)
        if ended:
            self.filter(pk__in=[row.pk for row in ended]).delete()
        for row in left:
            self.filter(pk=row.pk).update(
                last_sequence=row.last_sequence,
                tries=row.tries,
                error=row.error,
                due_at=now if row.delay is None else now + row.delay,
            )
        return {row.pk for row in (*ended, *left)}, any(row.delay is None for row in left)


class EventCursor(models.Model):
    """Events of a run that a subscriber has still to hear of: after ``last_sequence``, up to ``target``.

    There is a row only while there are any. Whoever delivers claims it with a new token until ``due_at``.
    """

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, on_delete=models.CASCADE, related_name="event_cursors", db_constraint=False, db_index=False
    )
    subscriber = models.CharField(_("subscriber"), max_length=200)
    last_sequence = models.PositiveIntegerField(_("heard of"))
    target = models.PositiveIntegerField(_("up to"))
    due_at = models.DateTimeField(_("due at"))
    token = models.PositiveBigIntegerField(_("token"), default=0, db_default=0)
    # Of the event after ``last_sequence``.
    tries = models.PositiveIntegerField(_("tries"), default=0, db_default=0)
    error = models.TextField(_("last error"), default="", db_default=Value(""), blank=True)

    objects = EventCursorQuerySet.as_manager()
    # After how long what has failed is tried again.
    delay: timedelta | None = None

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        default_permissions = ("view",)
        constraints = (models.UniqueConstraint(fields=["run", "subscriber"], name="wfe_cursor_once"),)
        indexes = (models.Index(fields=["subscriber", "due_at", "id"], name="wfe_cursor_due"),)

    def __str__(self) -> str:
        return f"{self.subscriber} ← {self.run_id}"
