"""Runs: the list, the page of one run, and what can be done: cancel, pause, resume or rerun it, answer its stages."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from workflow_engine.bulk import cancel_runs
from workflow_engine.conf import get_setting
from workflow_engine.errors import RunNotFound
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.running import cancel_run
from workflow_engine.statuses import DONE_STAGE, FINISHED_STAGE

from . import columns
from .answering import AnsweringAdmin
from .base import MOST_AT_ONCE, ReadOnlyAdmin, ReadOnlyChangeList, may_see_payloads, now
from .bulk import change_in_bulk
from .columns import MISSING, bar, chip, run_link, span
from .filters import CreatedFilter, OriginFilter, ParentFilter, WorkflowFilter
from .pausing import Pausing
from .reruns import Rerunning
from .run_page import run_page


class RunChangeList(ReadOnlyChangeList):
    """Counts the stages of all runs of a page by one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        runs = list(self.result_list)
        counts: dict[uuid.UUID, list[Any]] = {run.pk: [] for run in runs}
        # Stages are named, so that no item of a map is looked at.
        names = {item["id"] for run in runs for group in run.plan["groups"] for item in group["stages"]}
        rows = StageRun.objects.using(get_setting("DATABASE")).current().stages()
        rows = rows.filter(run__in=list(counts), stage__in=names)
        grouped = rows.order_by("group_number", "stage_number").values("run_id", "stage", "status", "stage_number")
        for row in grouped.annotate(count=Count("pk")):
            counts[row["run_id"]].append(row)
        for run in runs:
            run.stage_counts = counts[run.pk]
        self.result_list = runs


@admin.register(WorkflowRun)
class WorkflowRunAdmin(AnsweringAdmin, Pausing, Rerunning, ReadOnlyAdmin):
    list_display = ("short_id", "workflow", "state", "progress", "current_stage", "priority", "age", "duration")
    list_display_links = None
    list_filter = ("status", CreatedFilter, WorkflowFilter, OriginFilter, ParentFilter)
    linked_by = ("subject_type", "subject_id")
    list_select_related = ("data",)
    search_fields = ("id",)
    search_help_text = gettext_lazy("The exact id of a run")
    # The plan stays: the bar of progress needs it.
    unread = ("error", "data__input", "data__config", "data__metadata", "data__cancel_reason")
    fields = ("workflow",)
    actions = ("cancel", "pause", "resume")
    change_form_template = "workflow_engine/admin/run.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("data")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("workflow_engine.cancel_workflowrun")

    @admin.action(description=gettext_lazy("Cancel selected runs"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> None:
        runs: Any = queryset.order_by()
        chosen = list(runs.open().values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            change_in_bulk(self, request, runs.open(), cancel_runs)
            return
        count = sum(_cancel(run_id, request) for run_id in chosen)
        text = ngettext("Cancelled %(count)d run.", "Cancelled %(count)d runs.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.cancel_view))
        return [
            path("<uuid:run_id>/cancel/", view, name="workflow_engine_workflowrun_cancel"),
            *super().get_urls(),
        ]

    def cancel_view(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        try:
            cancelled = _cancel(run_id, request, reason=request.POST.get("reason", ""))
        except RunNotFound as error:
            raise Http404(str(error)) from error
        if cancelled:
            self.message_user(request, _("The run is cancelled."), messages.SUCCESS)
        else:
            self.message_user(request, _("Nothing to cancel: the run had already ended."), messages.WARNING)
        return HttpResponseRedirect(reverse("admin:workflow_engine_workflowrun_change", args=[run_id]))

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        run = context["original"]
        page = run_page(
            run,
            now=now(),
            see_payloads=may_see_payloads(request),
            may_answer=self.has_answer_permission(request),
            bound=context.get("bound", {}),
        )
        may_cancel = self.has_cancel_permission(request) and not run.is_finished
        context["may_pause"] = self.has_pause_permission(request) and not run.is_finished
        context.update(title=page["name"], subtitle=None, page=page, may_cancel=may_cancel)
        context["rerunnable"] = self.stages_to_rerun(request, run)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("run"))
    def short_id(self, run: WorkflowRun) -> str:
        return run_link(run.pk)

    @admin.display(description=gettext_lazy("status"))
    def state(self, run: WorkflowRun) -> SafeString:
        return state_of(run)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, run: Any) -> SafeString:
        total = sum(len(group["stages"]) for group in run.plan["groups"])
        open_or_failed = {row["stage"] for row in run.stage_counts if row["status"] not in DONE_STAGE}
        done = len({row["stage"] for row in run.stage_counts} - open_or_failed)
        return bar(done, total, f"{done}/{total}")

    @admin.display(description=gettext_lazy("current stage"))
    def current_stage(self, run: Any) -> str:
        if run.is_finished:
            return MISSING
        names = dict.fromkeys(row["stage"] for row in run.stage_counts if row["status"] not in FINISHED_STAGE)
        first, rest = next(iter(names), MISSING), len(names) - 1
        return _("%(stage)s and %(count)d more") % {"stage": first, "count": rest} if rest > 0 else first

    @admin.display(description=gettext_lazy("age"))
    def age(self, run: WorkflowRun) -> SafeString:
        exactly = run.created_at.isoformat(" ", "seconds")
        return format_html('<time title="{}">{}</time>', exactly, columns.age(run.created_at, now()))

    @admin.display(description=gettext_lazy("duration"))
    def duration(self, run: WorkflowRun) -> str:
        return span(run.started_at, run.finished_at or now())


def state_of(run: WorkflowRun) -> SafeString:
    """Return the chip of a run's status, with another one while it is paused."""
    status = chip(run.status, run.get_status_display())
    if run.paused_at is None or run.is_finished:
        return status
    return format_html("{} {}", status, chip("paused", _("Paused")))


def _cancel(run_id: uuid.UUID, request: HttpRequest, reason: str = "") -> bool:
    return cancel_run(run_id, reason=reason.replace("\x00", "").strip(), actor=request.user)
