"""The stages of a run as its page shows them: lines of the table, notes in the graph, and what the plan says ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from workflow_engine.models import StageMap, StageRun, WorkflowRun
from workflow_engine.models.awaited import Awaited
from workflow_engine.models.suspended import items_in_words, suspended_in_words
from workflow_engine.models.waiting import error_text
from workflow_engine.statuses import FINISHED_STAGE, StageStatus, WaitKind

from .columns import bar, chip, compact, cut, short, span
from .maps import items_cell


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table: its model instance, and what its cells say."""

    row: Any
    chip: SafeString
    cells: dict[str, Any]


def stage_line(row: StageRun, now: datetime, conditions: Mapping[str, str], awaited: Awaited) -> Line:
    counts = awaited.counts(row)
    running = row.status == StageStatus.RUNNING or _runs_items(row, counts)
    # Once a stage has ended, how far its body had said to be is misleading.
    progress = (row.progress or {}) if running and counts is None else {}
    cells = {
        "duration": span(row.started_at, row.finished_at or (now if running else None)),
        "progress": bar(progress.get("percent", 0), 100, f"{progress.get('percent', 0):.0f} %") if progress else "",
        "items": "" if counts is None else items_cell(counts),
        "message": cut(str(progress.get("message", ""))) or _remark(row, conditions, awaited),
        # A failed check stands in the remark.
        "error": error_text(row.error) if row.error and row.status != StageStatus.SUSPENDED else "",
        "metrics": compact(row.metrics),
    }
    if _runs_items(row, counts):
        return Line(row, chip("running", _("Items run")), cells)
    return Line(row, chip(row.status, row.get_status_display()), cells)


def _runs_items(row: StageRun, counts: StageMap | None) -> bool:
    return counts is not None and row.status == StageStatus.SUSPENDED


def _remark(row: StageRun, conditions: Mapping[str, str], awaited: Awaited) -> str:
    if _runs_items(row, awaited.counts(row)):
        # The counts say it.
        return ""
    if row.status == StageStatus.SUSPENDED:
        since = "" if row.suspended_at is None else f"{localtime(row.suspended_at):%Y-%m-%d %H:%M:%S}"
        facts = {"does": suspended_in_words(row, short(row.worker), child=awaited.child(row)), "since": since}
        return _("%(does)s; suspended since %(since)s") % facts
    if row.status == StageStatus.SKIPPED:
        return _("its condition does not hold: %(condition)s") % {"condition": conditions.get(row.stage, "?")}
    if row.status == StageStatus.PENDING and row.conditional and not row.attempt:
        return _("only if %(condition)s") % {"condition": conditions.get(row.stage, "?")}
    return ""


def notes_of(
    stages: Sequence[StageRun], now: datetime, conditions: Mapping[str, str], awaited: Awaited
) -> dict[str, str]:
    """Return what the graph says behind a stage's status: its time, what it waits for, its condition."""
    notes = {stage: _("only if %(condition)s") % {"condition": text} for stage, text in conditions.items()}
    for row in stages:
        counts = awaited.counts(row)
        if counts is not None and row.status == StageStatus.SUSPENDED:
            notes[row.stage] = _few_words(counts)
        elif row.status == StageStatus.SUSPENDED:
            notes[row.stage] = _waits_for(row, now, awaited)
        elif row.status == StageStatus.SKIPPED:
            continue
        elif row.status in (*FINISHED_STAGE, StageStatus.RUNNING):
            notes[row.stage] = span(row.started_at, row.finished_at or now) if row.started_at else ""
        elif row.due_time is None:
            notes[row.stage] = _("when its run has a place")
        elif row.due_at > now:
            notes[row.stage] = _("in %(span)s") % {"span": span(now, row.due_at)}
        elif row.attempt:
            notes.pop(row.stage, None)
    return notes


def _few_words(counts: StageMap) -> str:
    text = _("%(done)s of %(total)s") % {"done": f"{counts.done:,}", "total": f"{counts.total:,}"}
    return text + (_(", %(failed)s failed") % {"failed": f"{counts.failed:,}"} if counts.failed else "")


def _waits_for(row: StageRun, now: datetime, awaited: Awaited) -> str:
    """Return a few words, for the width of a box."""
    if row.wait_kind == WaitKind.ITEMS:
        return _("its items")
    if row.wait_kind == WaitKind.CHILD:
        child = awaited.child(row)
        return _("child %(id)s") % {"id": short(child.pk if child else None)}
    if row.wait_kind == WaitKind.ANSWER:
        return _("answer '%(name)s'") % {"name": row.wait_name}
    if row.worker is not None:
        return _("being checked")
    wait = span(now, row.wake_at) if row.wake_at is not None and row.wake_at > now else _("now")
    return (_("sleeps: %(span)s") if row.wait_kind == WaitKind.TIMER else _("check: %(span)s")) % {"span": wait}


def tips_of(stages: Sequence[StageRun], conditions: Mapping[str, str], awaited: Awaited) -> dict[str, str]:
    """Return what the graph says in full of suspended, skipped and mapped stages."""
    tips = {row.stage: remark for row in stages if (remark := _remark(row, conditions, awaited))}
    tips |= {row.stage: items_in_words(counts) for row in stages if (counts := awaited.counts(row))}
    begun = {row.stage for row in stages}
    only_if = _("not begun; only if %(condition)s")
    return tips | {stage: only_if % {"condition": text} for stage, text in conditions.items() if stage not in begun}


def planned(run: WorkflowRun, conditions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the stages of which the plan says under which condition they run, or for whose answers they may wait."""
    stages = [item for group in run.plan["groups"] for item in group["stages"]]
    return [
        {"stage": item["id"], "condition": conditions.get(item["id"], ""), "waits": item.get("waits", ())}
        for item in stages
        if item["id"] in conditions or item.get("waits")
    ]
