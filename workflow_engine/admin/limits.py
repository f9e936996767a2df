"""Limits of workflows: how many runs are under way, and which wait."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import LimitStart, RunLimit, RunPlace
from workflow_engine.statuses import OPEN_RUN, PlaceStatus

from .base import ReadOnlyAdmin
from .columns import run_link


def _count(status: PlaceStatus) -> Coalesce:
    places = RunPlace.objects.filter(limit=OuterRef("pk"), status=status, run__status__in=OPEN_RUN)
    number = places.order_by().values("limit").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(number, output_field=IntegerField()), 0)


@admin.register(RunLimit)
class RunLimitAdmin(ReadOnlyAdmin):
    list_display = ("workflow", "key", "under_way", "most", "waiting", "rate", "per", "next_at")
    list_filter = ("workflow",)
    ordering = ("workflow", "key", "pk")
    search_fields = ("key",)
    search_help_text = _("The beginning of a key")
    fields = ("workflow", "key", "most", "under_way", "waiting", "rate", "per", "next_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RunLimit]:
        rows: QuerySet[RunLimit] = super().get_queryset(request)
        return rows.annotate(held=_count(PlaceStatus.HELD), in_line=_count(PlaceStatus.WAITING))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RunLimit], search_term: str
    ) -> tuple[QuerySet[RunLimit], bool]:
        return queryset.filter(key__startswith=search_term.strip()), False

    @admin.display(description=_("under way"))
    def under_way(self, row: RunLimit) -> int:
        return row.held  # type: ignore[attr-defined,no-any-return]

    @admin.display(description=_("waiting"))
    def waiting(self, row: RunLimit) -> int:
        return row.in_line  # type: ignore[attr-defined,no-any-return]


@admin.register(RunPlace)
class RunPlaceAdmin(ReadOnlyAdmin):
    list_display = ("run_page", "workflow", "key", "status", "wanted_at", "given_at")
    list_filter = ("status",)
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    fields = ("run_page", "workflow", "key", "status", "wanted_at", "given_at")

    @admin.display(description=_("run"))
    def run_page(self, row: RunPlace) -> str:
        return run_link(row.run_id)


@admin.register(LimitStart)
class LimitStartAdmin(ReadOnlyAdmin):
    list_display = ("limit_page", "at")
    list_select_related = ("limit",)
    fields = ("limit_page", "at")

    @admin.display(description=_("limit"))
    def limit_page(self, row: LimitStart) -> str:
        return str(row.limit)
