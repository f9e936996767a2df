"""Rerunning a run: first a page that shows what is kept and what runs again, then the button."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import RunNotFound, WorkflowEngineError
from workflow_engine.kernel.reruns import PlannedStage, RerunPlan, preview, read_run, rerunnable, standing_now
from workflow_engine.models import StageMap, WorkflowRun
from workflow_engine.models.awaited import stage_rows
from workflow_engine.running import rerun_from
from workflow_engine.statuses import StageStatus

from .columns import MISSING, chip

LONGEST_KEY = 100


class Rerunning(admin.ModelAdmin):
    """What the admin of runs needs to rerun one."""

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("workflow_engine.rerun_workflowrun")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_http_methods(["GET", "HEAD", "POST"])(self.rerun_view))
        return [path("<uuid:run_id>/rerun/", view, name="workflow_engine_workflowrun_rerun"), *super().get_urls()]

    def stages_to_rerun(self, request: HttpRequest, run: WorkflowRun) -> list[PlannedStage]:
        """Return the stages from which this user can rerun the run as it is now."""
        if not run.is_finished or not self.has_rerun_permission(request):
            return []
        return rerunnable(standing_now(run))

    def rerun_view(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        if not self.has_rerun_permission(request):
            raise PermissionDenied
        try:
            if request.method == "POST":
                return self._rerun(request, run_id)
            return self._preview(request, run_id)
        except RunNotFound as error:
            raise Http404(str(error)) from error
        except WorkflowEngineError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(_page(run_id))

    def _preview(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        ports = get_kernel().ports
        only_failed = request.GET.get("items", "") == "failed"
        plan = preview(ports, run_id, request.GET.get("stage", ""), only_failed_items=only_failed)
        run = read_run(ports, run_id)
        counts = _counts(run, plan.stage_id)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Rerun from %(stage)s") % {"stage": plan.stage_id},
            "opts": self.opts,
            "media": self.media,
            "run": run,
            "plan": plan,
            "kept": [_line(one) for one in plan.kept],
            "again": [_line(one, _note(one, plan, counts)) for one in plan.again],
            "failed_items": 0 if counts is None else counts.total - counts.done,
            # A button that is pressed twice reruns once.
            "key": str(uuid.uuid4()),
        }
        return TemplateResponse(request, "workflow_engine/admin/rerun.html", context)

    def _rerun(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        stage_id, key = request.POST.get("stage", ""), request.POST.get("key", "")[:LONGEST_KEY] or None
        run = rerun_from(
            run_id,
            stage_id,
            only_failed_items=request.POST.get("items", "") == "failed",
            actor=request.user,
            idempotency_key=key,
            idempotency_scope=f"admin:{request.user.pk}",
        )
        text = _("The run goes on from %(stage)s, in generation %(number)d.")
        self.message_user(request, text % {"stage": stage_id, "number": run.generation}, messages.SUCCESS)
        return HttpResponseRedirect(_page(run_id))


def _page(run_id: uuid.UUID) -> str:
    return reverse("admin:workflow_engine_workflowrun_change", args=[run_id])


def _line(stage: PlannedStage, note: str = "") -> dict[str, Any]:
    status = chip(stage.status, StageStatus(stage.status).label) if stage.status else MISSING
    return {"stage": stage, "chip": status, "note": note}


def _counts(run: WorkflowRun, stage_id: str) -> StageMap | None:
    """Return how the items of a mapped stage have ended; None: it is no such, or they were never known."""
    rows = stage_rows(run).filter(stage=stage_id).order_by().values("pk")
    return StageMap.objects.using(run._state.db).filter(stage_run__in=rows).first()


def _note(stage: PlannedStage, plan: RerunPlan, counts: StageMap | None) -> str:
    if stage.stage_id != plan.stage_id or counts is None:
        return ""
    total = f"{counts.total:,}"
    if plan.items_again is None:
        return ngettext("its %(total)s item", "all its %(total)s items", counts.total) % {"total": total}
    again = f"{plan.items_again:,}"
    return _("%(again)s of its %(total)s items; the others keep their results") % {"again": again, "total": total}
