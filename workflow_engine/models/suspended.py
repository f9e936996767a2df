"""What a suspended stage does meanwhile, in words without its name: ``waits for the answer 'manager' until …``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from workflow_engine.statuses import WaitKind

from .maps import StageMap, counts_of
from .runs import WorkflowRun
from .stage_runs import StageRun

LONGEST_ERROR = 200


def suspended_in_words(
    row: StageRun, worker: str = "", *, counts: StageMap | None = None, child: WorkflowRun | None = None
) -> str:
    """Say what a suspended stage waits for.

    Args:
        worker: who makes a check of it now.
        counts: how far its items are, if it is mapped.
        child: the run for which it waits, if it waits for one.
    """
    if row.wait_kind == WaitKind.ITEMS:
        return _("runs its items") if counts is None else items_in_words(counts)
    if row.wait_kind == WaitKind.CHILD:
        return _child_in_words(row, child)
    facts: dict[str, Any] = {
        "name": row.wait_name,
        "until": "" if row.wait_until is None else time_in_words(row.wait_until),
        "time": "" if row.wake_at is None else time_in_words(row.wake_at),
        "worker": worker,
    }
    if row.wait_kind == WaitKind.ANSWER:
        if row.wait_until is None:
            return _("waits for the answer '%(name)s'") % facts
        return _("waits for the answer '%(name)s' until %(until)s") % facts
    if row.wait_kind == WaitKind.TIMER:
        return _("sleeps ('%(name)s') until %(time)s") % facts
    if row.worker is not None:
        return _("is being checked by worker %(worker)s") % {**facts, "worker": worker or row.worker}
    if not row.polls:
        return _("is checked for the first time at %(time)s") % facts
    return _("is checked again at %(time)s (%(checks)s)") % {**facts, "checks": checks_in_words(row)}


def items_in_words(counts: StageMap) -> str:
    """Return ``3,200 of 10,000 items are done, 12 failed, 64 are under way``."""
    number = counts_of(counts)
    text = ngettext("%(done)s of %(total)s item is done", "%(done)s of %(total)s items are done", counts.total)
    parts = [text % {"done": f"{counts.done:,}", "total": f"{counts.total:,}"}]
    if counts.failed:
        parts.append(_("%(count)s failed") % {"count": f"{counts.failed:,}"})
    if counts.cancelled:
        parts.append(_("%(count)s cancelled") % {"count": f"{counts.cancelled:,}"})
    if running := number["running"]:
        parts.append(ngettext("%(count)s is under way", "%(count)s are under way", running) % {"count": f"{running:,}"})
    return ", ".join(parts)


def _child_in_words(row: StageRun, child: WorkflowRun | None) -> str:
    if child is None:
        return _("waits for its child run '%(name)s'") % {"name": row.wait_name}
    facts = {"run": child.pk, "workflow": child.workflow, "status": child.status}
    return _("waits for its child run %(run)s of workflow %(workflow)s, which is %(status)s") % facts


def checks_in_words(row: StageRun) -> str:
    """Return how many checks were made, and how the last one failed if it did."""
    made = ngettext("%(count)d check so far", "%(count)d checks so far", row.polls) % {"count": row.polls}
    if not row.check_errors:
        return made
    return _("%(checks)s; the last one failed: %(error)s") % {"checks": made, "error": error_text(row.error or {})}


def error_text(error: dict[str, Any]) -> str:
    """Return ``Class: message`` of a stored error on one line, cut to 200 characters."""
    parts = (str(error.get("class") or error.get("code") or ""), str(error.get("message") or ""))
    text = " ".join(": ".join(filter(None, parts)).split())
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"


def time_in_words(when: datetime) -> str:
    """Return date and time in the project's time zone."""
    return f"{localtime(when) if is_aware(when) else when:%Y-%m-%d %H:%M:%S %Z}".strip()
