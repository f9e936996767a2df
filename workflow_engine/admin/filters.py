"""Filters whose choices are constants: none of them asks the table what is in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from workflow_engine.definitions import registered_workflows
from workflow_engine.kernel.events import EVENT_TYPES

from .base import now

# Hosts make ids by their own clocks.
CLOCK_SLACK = timedelta(hours=1)


class WorkflowFilter(admin.SimpleListFilter):
    """Runs of one of the workflows that are registered here."""

    title = _("workflow")
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(workflow.id, workflow.name) for workflow in registered_workflows()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(workflow=self.value()) if self.value() else queryset


class CreatedFilter(admin.SimpleListFilter):
    """Runs by age. Their ids begin with the time of their creation, so the primary key serves this."""

    title = _("created")
    parameter_name = "created"
    spans = {
        "hour": (_("In the past hour"), timedelta(hours=1)),
        "day": (_("In the past 24 hours"), timedelta(days=1)),
        "week": (_("In the past 7 days"), timedelta(days=7)),
        "month": (_("In the past 30 days"), timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, Any]]:
        yield from ((name, label) for name, (label, _span) in self.spans.items())
        yield "older", _("Earlier")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value in self.spans:
            since = now() - self.spans[value][1]
            return queryset.filter(created_at__gte=since, id__gte=_lowest_id(since - CLOCK_SLACK))
        if value == "older":
            before = now() - self.spans["month"][1]
            return queryset.filter(created_at__lt=before, id__lt=_lowest_id(before + CLOCK_SLACK))
        return queryset


def _lowest_id(when: datetime) -> uuid.UUID:
    """Return the least UUIDv7 of the time."""
    return uuid.UUID(int=int(when.timestamp() * 1000) << 80)


class EventTypeFilter(admin.SimpleListFilter):
    """Events of one of the types that the engine emits."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in EVENT_TYPES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset
