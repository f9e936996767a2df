"""Memos: what stages remember between their attempts."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import StageMemo

from .base import ReadOnlyAdmin
from .columns import MISSING, envelope_text, run_link


@admin.register(StageMemo)
class StageMemoAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "kind", "name", "stage", "actor", "due_at", "run_page")
    list_display_links = ("name",)
    list_filter = ("kind",)
    list_select_related: ClassVar[Any] = ("stage_run",)
    search_fields = ("run_id", "stage_run_id")
    search_help_text = _("The exact id of a run or stage run")
    unread = ("value", "stage_run__config", "stage_run__item", "stage_run__output", "stage_run__state")
    fields = ("kind", "name", "stage", "actor", "created_at", "due_at", "run_page")
    payload_fields = ("content",)

    @admin.display(description=_("stage"))
    def stage(self, row: StageMemo) -> str:
        item = row.stage_run.item_index
        return row.stage_run.stage if item is None else f"{row.stage_run.stage} #{item}"

    @admin.display(description=_("value"))
    def content(self, row: StageMemo) -> SafeString | str:
        if row.value is None:
            return MISSING
        return format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.value))

    @admin.display(description=_("run"))
    def run_page(self, row: StageMemo) -> str:
        return run_link(row.run_id)
