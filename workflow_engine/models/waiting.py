"""Why a run has not ended yet, as a plain sentence computed from rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from workflow_engine.statuses import OPEN_STAGE, RunStatus, StageStatus

from .runs import WorkflowRun
from .stage_runs import StageRun
from .workers import WorkerHeartbeat

MOST_STAGES = 3
LONGEST_ERROR = 200


def waiting_reason(run: WorkflowRun, now: datetime) -> str:
    """Say what the run is doing or waiting for; an empty text once it has ended. At most three queries."""
    if run.is_finished:
        return ""
    if run.paused_at is not None:
        return _("Paused since %(time)s: nothing new starts until it is resumed.") % {"time": _time(run.paused_at)}
    if run.status == RunStatus.RUNNING:
        return _why_running(run, now)
    if run.due_at > now:
        return _("Not due before %(time)s.") % {"time": _time(run.due_at)}
    return _no_worker(_alive(run, now), run.workflow)


def _why_running(run: WorkflowRun, now: datetime) -> str:
    rows = StageRun.objects.using(run._state.db).current().filter(run=run, status__in=OPEN_STAGE).in_order()
    # Those that run come first: what happens now says more than what will.
    found = sorted(rows.defer("config", "output", "metrics")[:100], key=lambda row: row.status != StageStatus.RUNNING)
    if not found:
        return _("Between two groups: the orchestrator moves it on at its next tick.")
    alive = _alive(run, now)
    names = _names(run, {row.worker for row in found[:MOST_STAGES] if row.worker})
    sentences = [_why_stage(row, run, now, alive, names) for row in found[:MOST_STAGES]]
    rest = len(found) - MOST_STAGES
    if rest > 0:
        more = ngettext("%(count)d more stage is open.", "%(count)d more stages are open.", rest)
        sentences.append(more % {"count": rest})
    return " ".join(dict.fromkeys(sentences))


def _why_stage(
    row: StageRun, run: WorkflowRun, now: datetime, alive: Sequence[WorkerHeartbeat], names: dict[uuid.UUID, str]
) -> str:
    facts: dict[str, Any] = {"stage": row.stage, "time": _time(row.due_at), "attempt": row.attempt}
    if row.status == StageStatus.RUNNING:
        worker = names.get(row.worker, "") if row.worker else ""
        if row.worker not in {item.pk for item in alive}:
            return _("Stage %(stage)s was left by its worker %(worker)s; it starts again elsewhere.") % {
                **facts,
                "worker": worker or row.worker,
            }
        return _("Running stage %(stage)s on worker %(worker)s (attempt %(attempt)d).") % {**facts, "worker": worker}
    if row.status == StageStatus.SUSPENDED:
        return _("Stage %(stage)s is suspended until %(time)s.") % facts
    if row.due_at > now:
        if row.error:
            return _("Stage %(stage)s retries at %(time)s after %(error)s.") % {**facts, "error": error_text(row.error)}
        return _("Stage %(stage)s is not due before %(time)s.") % facts
    if row.suspect and any(item.running for item in alive):
        return _("Stage %(stage)s waits for an idle worker: it runs alone since a worker died with it.") % facts
    return _no_worker(alive, run.workflow, row.queue)


def error_text(error: dict[str, Any]) -> str:
    """Return ``Class: message`` of a stored error on one line, cut to 200 characters."""
    parts = (str(error.get("class") or error.get("code") or ""), str(error.get("message") or ""))
    text = " ".join(": ".join(filter(None, parts)).split())
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"


def _alive(run: WorkflowRun, now: datetime) -> list[WorkerHeartbeat]:
    return list(WorkerHeartbeat.objects.using(run._state.db).alive(now).order_by("pk"))


def _names(run: WorkflowRun, workers: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    rows = WorkerHeartbeat.objects.using(run._state.db).filter(pk__in=workers)
    return dict(rows.values_list("pk", "name")) if workers else {}


def _no_worker(alive: Sequence[WorkerHeartbeat], workflow: str, queue: str | None = None) -> str:
    """Say which worker is missing; or only that all are busy."""
    if not alive:
        return _("No worker is running. Start one with: manage.py wfe_worker.")
    knowing = [item for item in alive if workflow in item.workflows]
    if not knowing:
        return _("No running worker knows the workflow %(workflow)s: it is missing from their code.") % {
            "workflow": workflow
        }
    taking = [item for item in knowing if queue is None or item.queues is None or queue in item.queues]
    if not taking:
        return _("No running worker takes stages of the queue %(queue)s.") % {"queue": queue}
    slots, running = sum(item.slots for item in taking), sum(item.running for item in taking)
    return _("Waiting for a free worker: %(running)d of %(slots)d places are taken.") % {
        "running": min(running, slots),
        "slots": slots,
    }


def _time(when: datetime) -> str:
    return f"{localtime(when):%Y-%m-%d %H:%M:%S %Z}"
