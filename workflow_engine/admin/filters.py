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
from workflow_engine.event_types import EVENT_TYPES
from workflow_engine.models import NOT_AN_ITEM

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


class GivenFilter(admin.SimpleListFilter):
    """Rows of what a link names; without such a link there is nothing to choose from."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(str(self.parameter_name), "")
        return [(given, self.label(given))] if given else []

    def label(self, given: str) -> str:
        return given

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class RunFilter(GivenFilter):
    """Rows of one run, by its exact id."""

    title, parameter_name = _("run"), "run"

    def label(self, given: str) -> str:
        return f"…{given[-8:]}"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        try:
            wanted = uuid.UUID(self.value()) if self.value() else None
        except ValueError:
            return queryset.none()
        return queryset if wanted is None else queryset.filter(**{str(self.parameter_name): wanted})


class ParentFilter(RunFilter):
    """Runs that one run has started."""

    title, parameter_name = _("started by run"), "parent_run"


class OriginFilter(admin.SimpleListFilter):
    """Runs that people and programs have started, or those that other runs have."""

    title, parameter_name = _("child runs"), "depth"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("0", _("Leave out")), ("1", _("Only these"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "0":
            return queryset.filter(depth=0)
        return queryset.filter(depth__gt=0) if self.value() == "1" else queryset


class StageFilter(GivenFilter):
    """Rows of one stage, by its exact id."""

    title, parameter_name = _("stage"), "stage"


class RowsFilter(admin.SimpleListFilter):
    """Stages or items that no rerun has superseded, of one run: in all runs the search would be long."""

    title, parameter_name = _("rows that count"), "rows"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("stages", _("Stages")), ("items", _("Items of maps"))] if request.GET.get("run") else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "stages":
            return queryset.filter(superseded_at__isnull=True, map_index=NOT_AN_ITEM)
        if self.value() == "items":
            return queryset.filter(superseded_at__isnull=True, map_index__gt=NOT_AN_ITEM)
        return queryset


class EventTypeFilter(admin.SimpleListFilter):
    """Events of one of the types that the engine emits."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in EVENT_TYPES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset
