"""Log lines of stages."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import WorkflowLog

from .base import ReadOnlyAdmin
from .columns import chip, cut, json_block, run_link


@admin.register(WorkflowLog)
class WorkflowLogAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "severity", "line", "stage", "attempt", "run_page")
    list_display_links = ("created_at",)
    list_filter = ("level",)
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    unread = ("fields",)
    fields = ("created_at", "severity", "message", "details", "stage", "attempt", "run_page")

    @admin.display(description=_("level"))
    def severity(self, row: WorkflowLog) -> SafeString:
        return chip(row.level, row.get_level_display())

    @admin.display(description=_("message"))
    def line(self, row: WorkflowLog) -> str:
        return cut(row.message)

    @admin.display(description=_("fields"))
    def details(self, row: WorkflowLog) -> str:
        return json_block(row.fields)

    @admin.display(description=_("run"))
    def run_page(self, row: WorkflowLog) -> str:
        return run_link(row.run_id)
