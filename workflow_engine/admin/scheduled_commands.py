"""Scheduled commands: what waits for its time, and what has become of it."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from workflow_engine.models import ScheduledCommand
from workflow_engine.scheduling import cancel_scheduled

from .base import MOST_AT_ONCE, ReadOnlyAdmin
from .columns import MISSING, chip, cut, json_block

CHIPS = {"FIRED": "completed", "DEAD": "failed"}


@admin.register(ScheduledCommand)
class ScheduledCommandAdmin(ReadOnlyAdmin):
    list_display = ("correlation_id", "command", "state", "run_at", "problem", "actor", "tries")
    list_filter = ("status", "command")
    search_fields = ("id",)
    search_help_text = _("An exact id or correlation id")
    unread = ("payload", "result")
    fields = (
        ("command", "state"),
        ("id", "correlation_id"),
        ("run_at", "due_at", "finished_at"),
        ("actor", "created_at"),
        ("tries", "error"),
    )
    payload_fields = ("what", "came_to")
    actions = ("cancel",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ScheduledCommand], search_term: str
    ) -> tuple[QuerySet[ScheduledCommand], bool]:
        found, several = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        if term and term.isprintable() and not several:
            found = found | queryset.filter(correlation_id=term)
        return found, several

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        allowed = request.user.has_perm("workflow_engine.cancel_scheduledcommand")
        return self.has_view_permission(request) and allowed

    @admin.action(description=_("Cancel selected commands"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[ScheduledCommand]) -> None:
        chosen = list(queryset.order_by().filter(due_at__isnull=False)[:MOST_AT_ONCE])
        count = sum(cancel_scheduled(row) for row in chosen)
        text = ngettext("Cancelled %(count)d command.", "Cancelled %(count)d commands.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    @admin.display(description=_("status"))
    def state(self, row: ScheduledCommand) -> SafeString:
        return chip(CHIPS.get(row.status, row.status), row.get_status_display())

    @admin.display(description=_("last error"))
    def problem(self, row: ScheduledCommand) -> str:
        return cut(row.error) or MISSING

    @admin.display(description=_("payload"))
    def what(self, row: ScheduledCommand) -> SafeString | str:
        return json_block(row.payload)

    @admin.display(description=_("result"))
    def came_to(self, row: ScheduledCommand) -> SafeString | str:
        return json_block(row.result)
