"""Attempts: the history of every try of a stage."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import StageAttempt

from .base import ReadOnlyAdmin
from .columns import MISSING, chip, cut, run_link, short, span


@admin.register(StageAttempt)
class StageAttemptAdmin(ReadOnlyAdmin):
    list_display = ("stage", "attempt", "kind", "ending", "finished_at", "duration", "problem", "held_by", "run_page")
    list_filter = ("outcome", "kind")
    search_fields = ("run_id", "stage_run_id")
    search_help_text = _("The exact id of a run or stage run")
    unread = ("traceback",)
    fields = (
        ("stage", "attempt", "generation"),
        ("kind", "ending"),
        ("started_at", "finished_at", "duration"),
        "error_code",
        "error_class",
        "error_message",
        "trace",
        "worker",
        "run_page",
    )

    @admin.display(description=_("outcome"))
    def ending(self, row: StageAttempt) -> SafeString:
        return chip(row.outcome, row.get_outcome_display())

    @admin.display(description=_("duration"))
    def duration(self, row: StageAttempt) -> str:
        return span(row.started_at, row.finished_at)

    @admin.display(description=_("error"))
    def problem(self, row: StageAttempt) -> str:
        return cut(": ".join(filter(None, (row.error_class or row.error_code, row.error_message)))) or MISSING

    @admin.display(description=_("traceback"))
    def trace(self, row: StageAttempt) -> str:
        return format_html('<pre class="wfe-json">{}</pre>', row.traceback) if row.traceback else MISSING

    @admin.display(description=_("worker"))
    def held_by(self, row: StageAttempt) -> str:
        return short(row.worker)

    @admin.display(description=_("run"))
    def run_page(self, row: StageAttempt) -> str:
        return run_link(row.run_id)
