"""Stage runs: the units of work of runs."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import StageRun
from workflow_engine.models.suspended import suspended_in_words
from workflow_engine.models.waiting import error_text
from workflow_engine.statuses import StageStatus

from .base import ReadOnlyAdmin, now
from .columns import MISSING, chip, envelope_text, json_block, run_link, short, span


@admin.register(StageRun)
class StageRunAdmin(ReadOnlyAdmin):
    list_display = ("stage", "chip_of_status", "run_page", "attempt", "problem", "duration", "held_by", "due_at")
    list_filter = ("status",)
    search_fields = ("id", "run_id")
    search_help_text = _("The exact id of a stage run or run")
    unread = ("config", "output", "metrics", "progress", "state")
    fields = (
        ("stage", "chip_of_status"),
        "run_page",
        ("group_number", "stage_number", "generation"),
        ("queue", "priority"),
        ("attempt", "failures", "crashes", "runs_alone"),
        ("due_at", "started_at", "finished_at", "duration", "superseded_at"),
        "worker",
        ("wait_kind", "wait_name"),
        ("suspended_at", "wake_at", "wait_until"),
        ("polls", "check_errors"),
        "problem",
        "figures",
        "advance",
    )
    payload_fields = ("settings", "result", "handed_over")

    @admin.display(description=_("status"))
    def chip_of_status(self, row: StageRun) -> SafeString:
        status = chip(row.status, row.get_status_display())
        if row.superseded_at is None:
            return status
        return format_html('{} <span class="wfe-quiet">{}</span>', status, _("superseded by a rerun"))

    @admin.display(description=_("duration"))
    def duration(self, row: StageRun) -> str:
        return span(row.started_at, row.finished_at or now())

    @admin.display(description=_("error, waits for"))
    def problem(self, row: StageRun) -> str:
        if row.status == StageStatus.SUSPENDED:
            return suspended_in_words(row, short(row.worker))
        return error_text(row.error) if row.error else MISSING

    @admin.display(description=_("suspect"))
    def runs_alone(self, row: StageRun) -> str:
        # The icon of a boolean would show a red cross for what is well.
        return str(_("yes, runs alone")) if row.suspect else MISSING

    @admin.display(description=_("worker"))
    def held_by(self, row: StageRun) -> str:
        return short(row.worker)

    @admin.display(description=_("metrics"))
    def figures(self, row: StageRun) -> str:
        return json_block(row.metrics)

    @admin.display(description=_("progress"))
    def advance(self, row: StageRun) -> str:
        return json_block(row.progress)

    @admin.display(description=_("config"))
    def settings(self, row: StageRun) -> str:
        return json_block(row.config)

    @admin.display(description=_("output"))
    def result(self, row: StageRun) -> str:
        return format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.output))

    @admin.display(description=_("suspended with"))
    def handed_over(self, row: StageRun) -> str:
        return format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.state))

    @admin.display(description=_("run"))
    def run_page(self, row: StageRun) -> str:
        return run_link(row.run_id)
