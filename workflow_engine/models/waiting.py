"""Why a run has not ended yet, as a plain sentence computed from rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from workflow_engine.statuses import OPEN_STAGE, PauseScope, RunStatus, StageStatus, WaitKind

from .awaited import Awaited
from .base import HELD_BACK
from .in_line import why_in_line
from .pauses import Pause
from .runs import WorkflowRun
from .stage_runs import NOT_AN_ITEM, StageRun
from .suspended import error_text, suspended_in_words
from .suspended import time_in_words as _time
from .workers import WorkerHeartbeat

__all__ = ["error_text", "waiting_reason"]
MOST_STAGES = 3
LONGEST_REASON = 200


def waiting_reason(run: WorkflowRun, now: datetime) -> str:
    """Say what the run is doing or waiting for; an empty text once it has ended.

    At most seven queries, however many stages and items the run has.
    """
    if run.is_finished:
        return ""
    if run.paused_at is not None:
        return _why_paused(run, run.paused_at)
    pauses = list(Pause.objects.using(run._state.db).order_by("pk"))
    if pause := next((pause for pause in pauses if pause.is_of(PauseScope.WORKFLOW, run.workflow)), None):
        facts = {"workflow": run.workflow, "pause": _pause_text(pause.paused_at, pause.actor, pause.reason)}
        return _("The workflow %(workflow)s has been paused %(pause)s. Nothing new starts until it is resumed.") % facts
    if run.status == RunStatus.RUNNING:
        return _why_running(run, now, pauses)
    if run.due_time is None:
        return " ".join(filter(None, (why_in_line(run, now), _missing_worker(_alive(run, now), run.workflow))))
    if run.due_at > now:
        return _("Not due before %(time)s.") % {"time": _time(run.due_at)}
    return _no_worker(_alive(run, now), run.workflow)


def _why_paused(run: WorkflowRun, since: datetime) -> str:
    told = run.events.filter(type="run.paused").order_by("-sequence").values_list("payload", flat=True).first() or {}
    pause = _pause_text(since, told.get("actor"), told.get("reason"))
    return _("Paused %(pause)s. Nothing new starts until it is resumed.") % {"pause": pause}


def _pause_text(since: datetime, actor: str | None, reason: str | None) -> str:
    """Return ``since … by …: reason``, on one line."""
    text = _("since %(time)s") % {"time": _time(since)}
    if actor:
        text += " " + _("by %(actor)s") % {"actor": actor}
    if reason:
        line = " ".join(reason.split())
        text += ": " + (line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…")
    return text


def _why_running(run: WorkflowRun, now: datetime, pauses: Sequence[Pause]) -> str:
    rows = StageRun.objects.using(run._state.db).current().filter(run=run, status__in=OPEN_STAGE).in_order()
    # Of a map only the items that were let go.
    rows = rows.exclude(due_at=HELD_BACK).defer("config", "item", "output", "metrics", "state")
    # Those that run come first: what happens now says more than what will.
    found = sorted(rows[:100], key=lambda row: row.status != StageStatus.RUNNING)
    stages = [row for row in found if row.map_index == NOT_AN_ITEM]
    if not stages and (in_line := why_in_line(run, now)):
        # It runs again, and nothing of it may start yet.
        return in_line
    if not stages:
        return _("Between two groups: the orchestrator moves it on at its next tick.")
    shown = [one for row in stages[:MOST_STAGES] for one in (row, *_first_item(row, found))]
    names = _names(run, {row.worker for row in shown if row.worker})
    look = _Look(run, now, pauses, _alive(run, now), names, Awaited(shown, str(run._state.db)))
    sentences = [_why_stage(row, look) for row in shown]
    rest = len(stages) - MOST_STAGES
    if rest > 0:
        more = ngettext("%(count)d more stage is open.", "%(count)d more stages are open.", rest)
        sentences.append(more % {"count": rest})
    return " ".join(filter(None, dict.fromkeys(sentences)))


def _first_item(row: StageRun, found: Sequence[StageRun]) -> list[StageRun]:
    """Return the item of a mapped stage that says the most about what the others do."""
    return [item for item in found if item.stage == row.stage and item.map_index != NOT_AN_ITEM][:1]


@dataclass(frozen=True, slots=True)
class _Look:
    """What was read beside the stages of a run that are open."""

    run: WorkflowRun
    now: datetime
    pauses: Sequence[Pause]
    alive: Sequence[WorkerHeartbeat]
    # Of workers that hold a stage.
    names: dict[uuid.UUID, str]
    awaited: Awaited

    def is_alive(self, worker: uuid.UUID | None) -> bool:
        return worker in {item.pk for item in self.alive}


def _why_stage(row: StageRun, look: _Look) -> str:
    """Return a sentence; an empty text for an item that simply runs, since its stage has counted it."""
    run, alive, is_item = look.run, look.alive, row.map_index != NOT_AN_ITEM
    name = f"{row.stage} #{row.map_index}" if is_item else row.stage
    facts: dict[str, Any] = {"stage": name, "time": _time(row.due_at), "attempt": row.attempt}
    if row.status == StageStatus.RUNNING:
        worker = look.names.get(row.worker, "") if row.worker else ""
        if not look.is_alive(row.worker):
            return _("Stage %(stage)s was left by its worker %(worker)s; it starts again elsewhere.") % {
                **facts,
                "worker": worker or row.worker,
            }
        if is_item:
            return ""
        return _("Running stage %(stage)s on worker %(worker)s (attempt %(attempt)d).") % {**facts, "worker": worker}
    if row.status == StageStatus.SUSPENDED:
        return _why_suspended(row, name, look)
    if pause := next((pause for pause in look.pauses if pause.is_of(PauseScope.QUEUE, row.queue)), None):
        text = _pause_text(pause.paused_at, pause.actor, pause.reason)
        return _("Stage %(stage)s waits: its queue %(queue)s has been paused %(pause)s.") % {
            **facts,
            "queue": row.queue,
            "pause": text,
        }
    if row.due_at > look.now:
        if row.error:
            return _("Stage %(stage)s retries at %(time)s after %(error)s.") % {**facts, "error": error_text(row.error)}
        return _("Stage %(stage)s is not due before %(time)s.") % facts
    if row.conditional and not row.attempt:
        undecided = _("Whether stage %(stage)s runs is not decided yet: its condition is looked at when it is taken.")
        return " ".join((undecided % facts, _no_worker(alive, run.workflow, row.queue)))
    if row.suspect and any(item.running for item in alive):
        return _("Stage %(stage)s waits for an idle worker: it runs alone since a worker died with it.") % facts
    return _no_worker(alive, run.workflow, row.queue)


def _why_suspended(row: StageRun, name: str, look: _Look) -> str:
    run, alive = look.run, look.alive
    facts = {"stage": name, "queue": row.queue, "name": row.wait_name}
    counts, child = look.awaited.counts(row), look.awaited.child(row)
    if counts is not None:
        return _("Stage %(stage)s: %(items)s.") % {**facts, "items": suspended_in_words(row, counts=counts)}
    worker = look.names.get(row.worker, "") if row.worker else ""
    if row.worker is not None and not look.is_alive(row.worker):
        left = _("A check of stage %(stage)s was left by its worker %(worker)s; it is made again elsewhere.")
        return left % {**facts, "worker": worker or row.worker}
    is_timed = row.wait_kind not in (WaitKind.ITEMS, WaitKind.CHILD)
    is_due = is_timed and row.worker is None and row.wake_at is not None and row.wake_at <= look.now
    if not is_due:
        return _("Stage %(stage)s %(does)s.") % {**facts, "does": suspended_in_words(row, worker, child=child)}
    if row.wait_kind == WaitKind.POLL:
        text = _("Stage %(stage)s waits for a worker that takes checks of queue %(queue)s.") % facts
        missing = _missing_worker(alive, run.workflow, row.queue)
    else:
        # Timers and deadlines are looked after by the loop of any worker.
        over = {
            WaitKind.TIMER: _("Stage %(stage)s has slept ('%(name)s'); it goes on at the next tick."),
            WaitKind.ANSWER: _("The time for the answer '%(name)s' of stage %(stage)s is over; the next tick ends it."),
        }
        text, missing = over[WaitKind(row.wait_kind)] % facts, "" if alive else _missing_worker(alive, run.workflow)
    return " ".join(filter(None, (text, missing)))


def _alive(run: WorkflowRun, now: datetime) -> list[WorkerHeartbeat]:
    return list(WorkerHeartbeat.objects.using(run._state.db).alive(now).order_by("pk"))


def _names(run: WorkflowRun, workers: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    rows = WorkerHeartbeat.objects.using(run._state.db).filter(pk__in=workers)
    return dict(rows.values_list("pk", "name")) if workers else {}


def _no_worker(alive: Sequence[WorkerHeartbeat], workflow: str, queue: str | None = None) -> str:
    """Say which worker is missing; or that all are busy, or that one is about to take it."""
    if missing := _missing_worker(alive, workflow, queue):
        return missing
    taking = _taking(alive, workflow, queue)
    slots, running = sum(item.slots for item in taking), sum(item.running for item in taking)
    if running < slots:
        text = _("A worker takes it in a moment: %(free)d of %(slots)d places are free.")
        return text % {"free": slots - running, "slots": slots}
    return _("Waiting for a free worker: all %(slots)d places are taken.") % {"slots": slots}


def _missing_worker(alive: Sequence[WorkerHeartbeat], workflow: str, queue: str | None = None) -> str:
    """Say which worker is missing; an empty text if there is one."""
    if not alive:
        return _("No worker is running. Start one with: manage.py wfe_worker.")
    if not any(workflow in item.workflows for item in alive):
        return _("No running worker knows the workflow %(workflow)s: it is missing from their code.") % {
            "workflow": workflow
        }
    if not _taking(alive, workflow, queue):
        return _("No running worker takes stages of the queue %(queue)s.") % {"queue": queue}
    return ""


def _taking(alive: Sequence[WorkerHeartbeat], workflow: str, queue: str | None) -> list[WorkerHeartbeat]:
    knowing = (item for item in alive if workflow in item.workflows)
    return [item for item in knowing if queue is None or item.queues is None or queue in item.queues]
