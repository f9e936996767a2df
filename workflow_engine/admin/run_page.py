"""What the page of one run shows: a fixed number of queries, and of rows, however large the run is."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db.models import F
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from workflow_engine.definitions import get_workflow
from workflow_engine.errors import WorkflowNotFound
from workflow_engine.graphs import conditions_of
from workflow_engine.models import NOT_AN_ITEM, ScheduleFire, StageMemo, StageRun, WorkflowRun
from workflow_engine.models.awaited import Awaited, mapped_stages, stage_rows
from workflow_engine.models.waiting import error_text, waiting_reason
from workflow_engine.statuses import DONE_STAGE, MemoKind, RunStatus, StageStatus

from .annotations import said
from .answer_form import AnswerForm
from .answering import questions_of
from .artifacts import download_url
from .columns import MISSING, bar, chip, compact, envelope_text, pretty, short, span
from .graph import draw, nodes_of
from .lineage import children_shown, lineage_facts
from .run_stages import Line, notes_of, planned, stage_line, tips_of
from .schedules import schedule_link

MOST_STAGES = 500
MOST_ROWS = 200


def run_page(
    run: WorkflowRun,
    *,
    now: datetime,
    see_payloads: bool,
    may_answer: bool,
    bound: dict[uuid.UUID, AnswerForm],
) -> dict[str, Any]:
    """Return the template's context. ``bound``: forms of answers that were sent and do not fit, by stage run."""
    stages = list(stage_rows(run).defer("config", "item", "output", "state")[: MOST_STAGES + 1])
    conditions, awaited = conditions_of(run.plan), Awaited(stages, str(run._state.db), mapped_stages(run))
    questions, more_questions = questions_of(run, stages, bound, see_payloads=see_payloads) if may_answer else ([], 0)
    return {
        "name": _name(run),
        "state": chip(run.status, run.get_status_display()),
        "is_paused": run.paused_at is not None and not run.is_finished,
        "progress": _progress(run, stages),
        "waiting": waiting_reason(run, now),
        "facts": _facts(run, now),
        "graph": draw(
            nodes_of(
                run.plan,
                stages,
                notes_of(stages, now, conditions, awaited),
                tips_of(stages, conditions, awaited),
                {row.stage: counts for row in stages if (counts := awaited.counts(row))},
            ),
            title=_("Stages of the run, group by group"),
        ),
        "questions": questions,
        "more_questions": more_questions,
        "answers": [_answer(memo) for memo in _answers(run)],
        "planned": planned(run, conditions),
        "stages": [stage_line(row, now, conditions, awaited) for row in stages[:MOST_STAGES]],
        "more_stages": len(stages) > MOST_STAGES,
        "most_rows": MOST_ROWS,
        "children": children_shown(run, now),
        "attempts": [_attempt(row) for row in _last(run, "attempts", "traceback", items=True)],
        "logs": [_log(row) for row in _last(run, "logs", items=True)],
        "events": [{"row": row, "payload": _details(row)} for row in _last(run, "events", order="sequence")],
        "artifacts": [
            _artifact(row, see_payloads) for row in _last(run, "artifacts", items=True, stage_run__superseded_at=None)
        ],
        "annotations": [{"row": row, "value": compact(said(row))} for row in _last(run, "annotations")],
        "payloads": _payloads(run) if see_payloads else None,
    }


def _answers(run: WorkflowRun) -> list[StageMemo]:
    rows = run.memos.filter(kind__in=(MemoKind.ANSWER, MemoKind.DEFAULT)).order_by("-pk")
    of_stage = ("stage_run__stage", "stage_run__map_index", "stage_run__generation")
    only = ("kind", "name", "actor", "created_at", "run", *of_stage)
    return list(rows.select_related("stage_run").only(*only)[:MOST_ROWS])[::-1]


def _answer(memo: StageMemo) -> dict[str, Any]:
    item = memo.stage_run.item_index
    by = _("by default: nobody answered in time") if memo.kind == MemoKind.DEFAULT else memo.actor or MISSING
    return {"row": memo, "stage": memo.stage_run.stage, "item": "" if item is None else item, "by": by}


def _last(
    run: WorkflowRun, name: str, *unread: str, order: str = "pk", items: bool = False, **wanted: Any
) -> list[Any]:
    """Return the last rows of a table of the run, the oldest first; with ``items`` they know ``map_index``."""
    rows = getattr(run, name).filter(**wanted)
    if items:
        rows = rows.annotate(map_index=F("stage_run__map_index"))
    return list(rows.order_by(f"-{order}").defer(*unread)[:MOST_ROWS])[::-1]


def _item(row: Any) -> str:
    """Return ``#3`` for what an item of a map has left."""
    return "" if row.map_index is None or row.map_index == NOT_AN_ITEM else f"#{row.map_index}"


def _name(run: WorkflowRun) -> str:
    try:
        return get_workflow(run.workflow).name
    except WorkflowNotFound:
        return run.workflow


def _progress(run: WorkflowRun, stages: list[StageRun]) -> SafeString:
    total = sum(len(group["stages"]) for group in run.plan["groups"])
    done = len({row.stage for row in stages} - {row.stage for row in stages if row.status not in DONE_STAGE})
    return bar(done, total, _("%(done)d of %(total)d stages") % {"done": done, "total": total})


def _facts(run: WorkflowRun, now: datetime) -> list[tuple[str, Any]]:
    """Return what there is to say of the run; what has no value is left out."""
    subject = f"{run.subject_type} {run.subject_id}" if run.subject_type_id else ""
    facts = [
        (_("Workflow"), run.workflow),
        *lineage_facts(run),
        *_schedule(run),
        (_("Version"), run.version),
        (_("Priority"), str(run.priority)),
        (_("Generation"), str(run.generation) if run.generation else ""),
        (_("Created by"), run.data.created_by),
        (_("Created"), run.created_at),
        (_("Due"), run.due_time if run.due_at > run.created_at else None),
        (_("Started"), run.started_at),
        (_("Deadline"), None if run.is_finished else run.deadline_at),
        (_("Finished"), run.finished_at),
        (_("Duration"), span(run.started_at, run.finished_at or now) if run.started_at else ""),
        (_("Total cost"), f"{run.total_cost:,.10g}" if run.total_cost else ""),
        (_("Total tokens"), f"{run.total_tokens:,}" if run.total_tokens else ""),
        (_("Subject"), subject),
        (_("Reason for cancelling"), run.data.cancel_reason),
        (_("Metadata"), compact(run.metadata)),
    ]
    return [(label, value) for label, value in facts if value]


def _schedule(run: WorkflowRun) -> list[tuple[str, Any]]:
    """Return which schedule has started the run, and for which time."""
    fire = ScheduleFire.objects.using(run._state.db).filter(run=run).select_related("schedule").first()
    return [] if fire is None else [(_("Schedule"), schedule_link(fire)), (_("For the time"), fire.due_at)]


def _attempt(row: Any) -> Line:
    error = {"class": row.error_class, "code": row.error_code, "message": row.error_message}
    cells = {
        "duration": span(row.started_at, row.finished_at),
        "error": error_text(error) if row.error_code else "",
        "worker": short(row.worker),
        "kind": row.get_kind_display(),
        "item": _item(row),
    }
    return Line(row, chip(row.outcome, row.get_outcome_display()), cells)


def _log(row: Any) -> Line:
    return Line(row, chip(row.level, row.get_level_display()), {"fields": compact(row.fields), "item": _item(row)})


def _details(event: Any) -> str:
    """Return the payload without what stands elsewhere on the page, or says nothing to people."""
    known = ("workflow_id", "stage_id", "stage_run_id", "token")
    return compact({key: value for key, value in event.payload.items() if key not in known})


def _artifact(row: Any, see_payloads: bool) -> dict[str, Any]:
    url = download_url(row.pk) if see_payloads else ""
    return {"row": row, "item": _item(row), "size": filesizeformat(row.size), "url": url}


def _payloads(run: WorkflowRun) -> list[tuple[str, str]]:
    """Return input, config and outputs as JSON text. What lies in the blob store is named, not loaded."""
    found = [(_("Input"), envelope_text(run.data.input))]
    if run.data.config:
        found.append((_("Config"), pretty(run.data.config)))
    if run.status != RunStatus.COMPLETED or not run.plan["groups"]:
        return found
    number = run.output_group
    if number == 0:
        return [*found, (_("Output"), envelope_text(run.data.input))]
    last = [item["id"] for item in run.plan["groups"][number - 1]["stages"]]
    rows = stage_rows(run).filter(stage__in=last, status=StageStatus.COMPLETED)
    for stage_id, output in rows.values_list("stage", "output")[:MOST_ROWS]:
        title = _("Output") if len(last) == 1 else _("Output of %(stage)s") % {"stage": stage_id}
        found.append((title, envelope_text(output)))
    return found
