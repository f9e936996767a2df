"""Stage runs: the units of work of runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import StageMap, StageRun
from workflow_engine.models.awaited import Awaited
from workflow_engine.models.lineage import MOST_SHOWN
from workflow_engine.models.suspended import suspended_in_words
from workflow_engine.models.waiting import error_text
from workflow_engine.statuses import StageStatus

from .base import ReadOnlyAdmin, ReadOnlyChangeList, now
from .columns import MISSING, chip, envelope_text, json_block, moment, run_link, short, span
from .filters import RowsFilter, RunFilter, StageFilter
from .maps import items_cell


class StageRunChangeList(ReadOnlyChangeList):
    """Looks up what the stages of a page wait for by three queries at most."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        awaited = Awaited(rows, str(rows[0]._state.db)) if rows else None
        for row in rows:
            row.awaited = awaited
        self.result_list = rows


@admin.register(StageRun)
class StageRunAdmin(ReadOnlyAdmin):
    list_display = (
        "stage",
        "item_number",
        "chip_of_status",
        "run_page",
        "attempt",
        "problem",
        "duration",
        "held_by",
        "due",
    )
    list_filter = (RunFilter, StageFilter, RowsFilter, "status")
    search_fields = ("id", "run_id")
    search_help_text = _("The exact id of a stage run or run")
    unread = ("config", "item", "output", "metrics", "progress", "state")
    fields = (
        ("stage", "item_number", "chip_of_status"),
        "run_page",
        "items",
        "child_runs",
        ("group_number", "stage_number", "generation"),
        ("queue", "priority"),
        ("attempt", "failures", "crashes", "runs_alone"),
        ("due", "started_at", "finished_at", "duration", "superseded_at"),
        "worker",
        ("wait_kind", "wait_name"),
        ("suspended_at", "wakes", "wait_until"),
        ("polls", "check_errors"),
        "problem",
        "figures",
        "advance",
    )
    payload_fields = ("settings", "given", "result", "handed_over")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return StageRunChangeList

    def get_ordering(self, request: HttpRequest) -> Any:
        # Of one run the items stand in their order, which an index serves.
        return ("stage", "map_index", "generation") if request.GET.get("run") else super().get_ordering(request)

    @admin.display(description=_("item"))
    def item_number(self, row: StageRun) -> str:
        return MISSING if row.item_index is None else f"#{row.item_index}"

    @admin.display(description=_("items"))
    def items(self, row: StageRun) -> SafeString | str:
        counts = StageMap.objects.using(row._state.db).filter(pk=row.pk).first()
        return MISSING if counts is None else items_cell(counts)

    @admin.display(description=_("child runs"))
    def child_runs(self, row: StageRun) -> SafeString | str:
        children = row.child_runs.order_by("pk").values_list("pk", flat=True)[:MOST_SHOWN]
        return format_html_join(", ", "{}", ((run_link(pk),) for pk in children)) or MISSING

    @admin.display(description=_("due at"))
    def due(self, row: StageRun) -> str:
        return str(_("after other items")) if row.due_time is None else moment(row.due_time)

    @admin.display(description=_("wakes at"))
    def wakes(self, row: StageRun) -> str:
        return moment(row.wake_time)

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
            awaited = getattr(row, "awaited", None) or Awaited([row], str(row._state.db))
            counts, child = awaited.counts(row), awaited.child(row)
            return suspended_in_words(row, short(row.worker), counts=counts, child=child)
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
        # A copy in each of thousands of items would only take room.
        return json_block(row.config if row.item_index is None else row.run.data.config_of(row.stage))

    @admin.display(description=_("item's input"))
    def given(self, row: StageRun) -> str:
        return MISSING if row.item is None else format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.item))

    @admin.display(description=_("output"))
    def result(self, row: StageRun) -> str:
        return format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.output))

    @admin.display(description=_("suspended with"))
    def handed_over(self, row: StageRun) -> str:
        return format_html('<pre class="wfe-json">{}</pre>', envelope_text(row.state))

    @admin.display(description=_("run"))
    def run_page(self, row: StageRun) -> str:
        return run_link(row.run_id)
