"""Answering waiting stages from the page of their run."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from workflow_engine.conf import get_setting
from workflow_engine.definitions import Wait, get_workflow
from workflow_engine.errors import (
    AlreadyAnswered,
    FieldError,
    InvalidInput,
    InvalidPayload,
    NotWaiting,
    RunNotFound,
    StageNotFound,
    WorkflowNotFound,
)
from workflow_engine.graphs.durations import spell
from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkflowRun
from workflow_engine.models.awaited import asking_items
from workflow_engine.models.lineage import MOST_COUNTED
from workflow_engine.running import answer_stage
from workflow_engine.statuses import StageStatus, WaitKind

from .answer_form import AnswerForm
from .columns import cut, envelope_text

MOST_QUESTIONS = 20
LONGEST_ITEM = 500


@dataclass(frozen=True, slots=True)
class Question:
    """A stage run that waits for an answer. ``form`` is None if the code here does not know the wait."""

    row: StageRun
    # What the item is, if it is one and may be seen.
    item: str
    description: str
    # What happens once the time is over.
    otherwise: str
    form: AnswerForm | None


def questions_of(
    run: WorkflowRun, stages: Sequence[StageRun], bound: dict[uuid.UUID, AnswerForm], *, see_payloads: bool
) -> tuple[list[Question], int]:
    """Return the first 20 questions that are open, and how many more there are (of items, up to 10,000).

    ``bound`` holds forms that were sent and do not fit: these questions come first.
    """
    asking = [row for row in stages if row.status == StageStatus.SUSPENDED and row.wait_kind == WaitKind.ANSWER]
    count = len(asking)
    if any(row.wait_kind == WaitKind.ITEMS for row in stages):
        items = asking_items(run).defer("config", "output", "state")
        asking += [*items.filter(pk__in=list(bound)), *items.exclude(pk__in=list(bound))[:MOST_QUESTIONS]]
        count += items.order_by().values("pk")[:MOST_COUNTED].count()
    asking.sort(key=lambda row: row.pk not in bound)
    shown = [_question(run, row, bound.get(row.pk), see_payloads) for row in asking[:MOST_QUESTIONS]]
    return shown, max(0, count - len(shown))


def _question(run: WorkflowRun, row: StageRun, form: AnswerForm | None, see_payloads: bool) -> Question:
    wait = find_wait(run.workflow, row.stage, row.wait_name)
    item = cut(envelope_text(row.item), LONGEST_ITEM) if see_payloads and row.map_index != NOT_AN_ITEM else ""
    if wait is None:
        return Question(row, item, "", "", None)
    return Question(row, item, wait.description, _otherwise(wait), form or AnswerForm(wait, id=str(row.pk)))


def _otherwise(wait: Wait[Any]) -> str:
    if wait.max_wait is None:
        return ""
    facts = {"span": spell(wait.max_wait)}
    if wait.has_default:
        return _("After %(span)s without an answer it goes on with the default one.") % facts
    return _("After %(span)s without an answer the stage fails.") % facts


def find_wait(workflow_id: str, stage_id: str, name: str) -> Wait[Any] | None:
    """Return the wait as this code declares it; None if it does not."""
    try:
        return get_workflow(workflow_id).get_stage(stage_id).get_wait(name)
    except (WorkflowNotFound, StageNotFound):
        return None


class AnsweringAdmin(admin.ModelAdmin):
    """The address to which the forms of a run's page are sent, for holders of ``answer_stagerun``."""

    def has_answer_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("workflow_engine.answer_stagerun")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.answer_view))
        return [path("<uuid:run_id>/answer/", view, name="workflow_engine_workflowrun_answer"), *super().get_urls()]

    def answer_view(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        if not self.has_answer_permission(request):
            raise PermissionDenied
        run, row = _find(run_id, request.POST.get("stage_run", ""))
        name = request.POST.get("wait", "")
        wait = find_wait(run.workflow, row.stage, name)
        if wait is None:
            text = _("The code here declares no such wait for stage %(stage)s.") % {"stage": row.stage}
            return self._back(request, run_id, text, messages.ERROR)
        form = AnswerForm(wait, id=str(row.pk), data=request.POST)
        if form.is_valid():
            try:
                answer_stage(run_id, row.stage, form.answer, wait=name, item=row.item_index, actor=request.user)
            except InvalidInput as error:
                form.refuse(error.errors)
            except InvalidPayload as error:
                form.refuse([FieldError("", str(error))])
            except (NotWaiting, AlreadyAnswered) as error:
                return self._back(request, run_id, str(error), messages.ERROR)
            except (RunNotFound, StageNotFound) as error:
                raise Http404(str(error)) from error
            else:
                text = _("Stage %(stage)s has its answer and goes on.") % {"stage": place_of(row)}
                return self._back(request, run_id, text, messages.SUCCESS)
        if not _asks(row, name):
            text = _("Stage %(stage)s does not wait for the answer '%(name)s' any more; nothing was changed.")
            return self._back(request, run_id, text % {"stage": place_of(row), "name": name}, messages.ERROR)
        return self._again(request, run_id, {row.pk: form})

    def _back(self, request: HttpRequest, run_id: uuid.UUID, text: str, level: int) -> HttpResponse:
        self.message_user(request, text, level)
        return HttpResponseRedirect(reverse("admin:workflow_engine_workflowrun_change", args=[run_id]))

    def _again(self, request: HttpRequest, run_id: uuid.UUID, bound: dict[uuid.UUID, AnswerForm]) -> HttpResponse:
        """Show the run's page with what was typed in, and what is wrong with it."""
        text = _("The answer does not fit; nothing was changed. See the form below.")
        self.message_user(request, text, messages.ERROR)
        # The page is one to look at; a POST to it would be a try to change the row.
        request.method = "GET"
        response = self.change_view(request, str(run_id), extra_context={"bound": bound})
        response.status_code = 422
        return response


def place_of(row: StageRun) -> str:
    """Return ``review #3`` for an item of a map, else just the stage."""
    return row.stage if row.item_index is None else f"{row.stage} #{row.item_index}"


def _asks(row: StageRun, name: str) -> bool:
    """Whether the question is still open, so that its form is on the page."""
    return row.status == StageStatus.SUSPENDED and row.wait_kind == WaitKind.ANSWER and row.wait_name == name


def _find(run_id: uuid.UUID, stage_run_id: str) -> tuple[WorkflowRun, StageRun]:
    """Return the run and its stage run. Raises ``Http404``, also for a stage run of another run."""
    try:
        wanted = uuid.UUID(stage_run_id)
    except ValueError:
        raise Http404("stage_run is no id") from None
    rows = StageRun.objects.using(get_setting("DATABASE")).current().filter(pk=wanted, run=run_id)
    row = rows.select_related("run").defer("config", "output", "state").first()
    if row is None:
        raise Http404("the run has no such stage run")
    return row.run, row
