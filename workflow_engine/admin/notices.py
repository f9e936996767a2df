"""Notices: what one run has to tell another and has not told yet. Each stands here for a moment only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import RunNotice

from .base import ReadOnlyAdmin
from .columns import run_link


@admin.register(RunNotice)
class RunNoticeAdmin(ReadOnlyAdmin):
    list_display = ("kind", "run_page", "sender_page", "due_at", "tries")
    list_filter = ("kind",)
    search_fields = ("run_id", "sender")
    search_help_text = _("The exact id of a run")
    fields = ("kind", "run_page", "sender_page", "due_at", "tries")

    @admin.display(description=_("to run"))
    def run_page(self, row: RunNotice) -> str:
        return run_link(row.run_id)

    @admin.display(description=_("from run"))
    def sender_page(self, row: RunNotice) -> str:
        return run_link(row.sender)
