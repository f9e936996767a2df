"""Events of the outbox."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import OutboxEvent

from .base import ReadOnlyAdmin
from .columns import json_block, run_link
from .filters import EventTypeFilter


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ("occurred_at", "type", "sequence", "run_page")
    list_filter = (EventTypeFilter,)
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    unread = ("payload",)
    fields = ("occurred_at", "type", "sequence", "generation", "content", "causation_id", "run_page")

    @admin.display(description=_("payload"))
    def content(self, row: OutboxEvent) -> str:
        return json_block(row.payload)

    @admin.display(description=_("run"))
    def run_page(self, row: OutboxEvent) -> str:
        return run_link(row.run_id)
