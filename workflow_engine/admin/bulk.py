"""Bulk operations: how far they are, and the runs with which something was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from workflow_engine.bulk import cancel_bulk
from workflow_engine.models import BulkOperation, BulkTarget
from workflow_engine.models.bulk import PERMISSIONS
from workflow_engine.statuses import TargetOutcome

from .base import MOST_AT_ONCE, ReadOnlyAdmin, now
from .columns import MISSING, age, bar, chip, cut, json_block, run_link, short, span

# Of what failed on the page of an operation; the list of its runs has the rest.
MOST_SHOWN = 50
VIEW = "workflow_engine.view_bulkoperation"


@admin.register(BulkOperation)
class BulkOperationAdmin(ReadOnlyAdmin):
    list_display = ("short_id", "kind", "state", "progress", "changed", "unchanged", "failed", "actor", "since")
    list_display_links = None
    list_filter = ("status", "kind")
    search_fields = ("id",)
    search_help_text = gettext_lazy("The exact id of a bulk operation")
    unread = ("arguments",)
    fields = (
        ("kind", "state"),
        "id",
        "progress",
        ("changed", "unchanged", "failed"),
        ("actor", "reason", "stage"),
        ("created_at", "started_at", "finished_at", "duration"),
        "failures",
        "all_targets",
    )
    payload_fields = ("settings",)
    actions = ("stop",)

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and any(map(request.user.has_perm, PERMISSIONS.values()))

    @admin.action(description=gettext_lazy("Let selected operations go no further"), permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[BulkOperation]) -> None:
        allowed = [kind for kind, permission in PERMISSIONS.items() if request.user.has_perm(permission)]
        chosen = queryset.order_by().filter(kind__in=allowed).values_list("pk", flat=True)[:MOST_AT_ONCE]
        count = sum(map(cancel_bulk, list(chosen)))
        text = ngettext("Stopped %(count)d operation.", "Stopped %(count)d operations.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    @admin.display(description=gettext_lazy("operation"))
    def short_id(self, row: BulkOperation) -> SafeString:
        return format_html('<a class="wfe-id" href="{}" title="{}">{}</a>', _address(row), row.pk, short(row.pk))

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: BulkOperation) -> SafeString:
        return chip(row.status, row.get_status_display())

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, row: BulkOperation) -> SafeString:
        return bar(row.done, row.total, f"{row.done:,}/{row.total:,}")

    @admin.display(description=gettext_lazy("age"))
    def since(self, row: BulkOperation) -> str:
        return age(row.created_at, now())

    @admin.display(description=gettext_lazy("duration"))
    def duration(self, row: BulkOperation) -> str:
        return span(row.started_at, row.finished_at or now())

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, row: BulkOperation) -> str:
        return row.arguments.get("reason") or MISSING

    @admin.display(description=gettext_lazy("from stage"))
    def stage(self, row: BulkOperation) -> str:
        return row.arguments.get("stage_id") or MISSING

    @admin.display(description=gettext_lazy("config"))
    def settings(self, row: BulkOperation) -> SafeString | str:
        return json_block(row.arguments.get("config"))

    @admin.display(description=gettext_lazy("what failed"))
    def failures(self, row: BulkOperation) -> SafeString | str:
        rows = row.targets.using(row._state.db).filter(outcome=TargetOutcome.FAILED).order_by("id")
        lines = [(run_link(target.run_id), cut(target.message, 500)) for target in rows[:MOST_SHOWN]]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{} {}</li>", lines)) if lines else MISSING

    @admin.display(description=gettext_lazy("its runs"))
    def all_targets(self, row: BulkOperation) -> SafeString:
        address = reverse("admin:workflow_engine_bulktarget_changelist")
        return format_html('<a href="{}?q={}">{}</a>', address, row.pk, _("All %(count)d") % {"count": row.total})


@admin.register(BulkTarget)
class BulkTargetAdmin(ReadOnlyAdmin):
    list_display = ("run_page", "ending", "why", "operation_page")
    list_display_links = None
    list_filter = ("outcome",)
    list_select_related: ClassVar[Any] = ()
    search_fields = ("operation_id", "run_id")
    search_help_text = gettext_lazy("The exact id of a bulk operation or run")
    fields = ("run_page", "ending", "why", "operation_page")

    @admin.display(description=gettext_lazy("run"))
    def run_page(self, row: BulkTarget) -> SafeString | str:
        return run_link(row.run_id)

    @admin.display(description=gettext_lazy("outcome"))
    def ending(self, row: BulkTarget) -> SafeString:
        return chip(row.outcome, row.get_outcome_display())

    @admin.display(description=gettext_lazy("message"))
    def why(self, row: BulkTarget) -> str:
        return cut(row.message, 500) or MISSING

    @admin.display(description=gettext_lazy("operation"))
    def operation_page(self, row: BulkTarget) -> SafeString:
        operation = BulkOperation(pk=row.operation_id)
        return format_html('<a class="wfe-id" href="{}">{}</a>', _address(operation), short(operation.pk))


def change_in_bulk(
    page: admin.ModelAdmin[Any], request: HttpRequest, runs: QuerySet[Any], change: Callable[..., BulkOperation]
) -> None:
    """Change runs, too many for one request, by a bulk operation; say so, with a link for those who may look at it."""
    operation = change(runs, actor=request.user)
    text = _("%(count)d runs are changed in the background.") % {"count": operation.total}
    if request.user.has_perm(VIEW):
        text = format_html('{} <a href="{}">{}</a>', text, _address(operation), _("See how far it is"))
    page.message_user(request, text, messages.SUCCESS)


def _address(operation: BulkOperation) -> str:
    return reverse("admin:workflow_engine_bulkoperation_change", args=[operation.pk])
