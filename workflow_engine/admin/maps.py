"""Maps as pages show them: a bar of what has become of the items, the counts, and the way to the items themselves."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from workflow_engine.models import StageMap
from workflow_engine.models.maps import counts_of
from workflow_engine.models.suspended import items_in_words
from workflow_engine.statuses import StageStatus

from .base import ReadOnlyAdmin
from .columns import run_link

BAR_WIDTH, BAR_HEIGHT = 120, 6


def parts_of(counts: StageMap) -> tuple[tuple[str, float], ...]:
    """Return the shares of a map's bar by status, from 0 to 1; what was not let go yet has none."""
    numbers, total = counts_of(counts), max(1, counts.total)
    shown = (
        (StageStatus.COMPLETED, numbers["done"]),
        (StageStatus.FAILED, numbers["failed"]),
        (StageStatus.CANCELLED, numbers["cancelled"]),
        (StageStatus.RUNNING, numbers["running"]),
    )
    return tuple((status.lower(), number / total) for status, number in shown if number)


def bar_of(parts: tuple[tuple[str, float], ...], *, x: float, y: float, width: float, height: float) -> SafeString:
    """Return the rectangles of a bar in an SVG: one behind, one per part."""
    drawn, left = [], x
    for kind, share in parts:
        drawn.append((kind, f"{left:g}", f"{y:g}", f"{share * width:g}", f"{height:g}"))
        left += share * width
    rectangle = '<rect class="wfe-fill wfe-{}" x="{}" y="{}" width="{}" height="{}"/>'
    return format_html(
        '<rect class="wfe-track" x="{}" y="{}" width="{}" height="{}"/>{}',
        f"{x:g}",
        f"{y:g}",
        f"{width:g}",
        f"{height:g}",
        format_html_join("", rectangle, drawn),
    )


def items_cell(counts: StageMap) -> SafeString:
    """Return bar, counts and links of a mapped stage."""
    text = items_in_words(counts)
    return format_html(
        '<span class="wfe-items"><svg class="wfe-graph wfe-itembar" width="{}" height="{}" role="img" aria-label="{}">'
        "{}</svg> <span>{}</span> <span>{}</span></span>",
        BAR_WIDTH,
        BAR_HEIGHT,
        text,
        bar_of(parts_of(counts), x=0, y=0, width=BAR_WIDTH, height=BAR_HEIGHT),
        text,
        _links(counts),
    )


def _links(counts: StageMap) -> SafeString:
    all_of = ngettext("%(count)s item", "%(count)s items", counts.total) % {"count": f"{counts.total:,}"}
    found = [(items_url(counts.run_id, counts.stage), all_of)]
    if counts.failed:
        text = _("%(count)s failed") % {"count": f"{counts.failed:,}"}
        found.append((items_url(counts.run_id, counts.stage, status__exact=StageStatus.FAILED.value), text))
    return format_html_join(" · ", '<a href="{}">{}</a>', found)


def items_url(run_id: uuid.UUID, stage_id: str, **more: str) -> str:
    """Return the address of the list of a mapped stage's items."""
    query = urlencode({"run": str(run_id), "stage": stage_id, "rows": "items", **more})
    return f"{reverse('admin:workflow_engine_stagerun_changelist')}?{query}"


@admin.register(StageMap)
class StageMapAdmin(ReadOnlyAdmin):
    list_display = ("stage", "run_page", "generation", "counted")
    search_fields = ("stage_run_id", "run_id")
    search_help_text = gettext_lazy("The exact id of a stage run or run")
    fields = ("stage", "run_page", "generation", "on_item_error", "max_parallel", "needed", "total", "counted")

    @admin.display(description=gettext_lazy("items"))
    def counted(self, row: Any) -> SafeString:
        return items_cell(row)

    @admin.display(description=gettext_lazy("run"))
    def run_page(self, row: StageMap) -> str:
        return run_link(row.run_id)
