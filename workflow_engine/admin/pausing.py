"""Pausing: of runs, by actions and buttons; of workflows and queues, by the list of pauses."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from workflow_engine.bootstrap import get_kernel
from workflow_engine.bulk import pause_runs, resume_runs
from workflow_engine.errors import InvalidInput, RunNotFound, WorkflowNotFound
from workflow_engine.kernel.commands import PauseWork, ResumeWork
from workflow_engine.models import BulkOperation, Pause, WorkflowRun
from workflow_engine.pausing import pause_run, resume_run
from workflow_engine.running import actor_name

from .base import MOST_AT_ONCE, ReadOnlyAdmin, now
from .bulk import change_in_bulk
from .columns import age

PAUSE = "workflow_engine.pause_workflowrun"


class Pausing(admin.ModelAdmin):
    """What the admin of runs needs to pause and resume them."""

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(PAUSE)

    @admin.action(description=gettext_lazy("Pause selected runs"), permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> None:
        count = self._each(request, queryset.filter(paused_at__isnull=True), pause_run, pause_runs)
        self._tell(request, ngettext("Paused %(count)d run.", "Paused %(count)d runs.", count or 0), count)

    @admin.action(description=gettext_lazy("Resume selected runs"), permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> None:
        count = self._each(request, queryset.filter(paused_at__isnull=False), resume_run, resume_runs)
        self._tell(request, ngettext("Resumed %(count)d run.", "Resumed %(count)d runs.", count or 0), count)

    def _each(
        self, request: HttpRequest, runs: Any, change: Callable[..., bool], change_many: Callable[..., BulkOperation]
    ) -> int | None:
        """Change the open ones of ``runs``; return how many were. None: they are many, so it is done in bulk."""
        runs = runs.order_by().open()
        chosen = list(runs.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            change_in_bulk(self, request, runs, change_many)
            return None
        return sum(change(run_id, actor=request.user) for run_id in chosen)

    def _tell(self, request: HttpRequest, text: str, count: int | None) -> None:
        if count is not None:
            self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.WARNING)

    def get_urls(self) -> list[Any]:
        return [
            path(f"<uuid:run_id>/{name}/", self._guarded(view), name=f"workflow_engine_workflowrun_{name}")
            for name, view in (("pause", self.pause_view), ("resume", self.resume_view))
        ] + super().get_urls()

    def _guarded(self, view: Callable[..., HttpResponse]) -> Any:
        return self.admin_site.admin_view(require_POST(view))

    def pause_view(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        changed = self._change(request, run_id, pause_run)
        text = _("The run is paused.") if changed else _("Nothing to pause: the run was paused, or has ended.")
        self.message_user(request, text, messages.SUCCESS if changed else messages.WARNING)
        return _page(run_id)

    def resume_view(self, request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
        changed = self._change(request, run_id, resume_run)
        text = _("The run goes on.") if changed else _("Nothing to resume: the run was not paused, or has ended.")
        self.message_user(request, text, messages.SUCCESS if changed else messages.WARNING)
        return _page(run_id)

    def _change(self, request: HttpRequest, run_id: uuid.UUID, change: Callable[..., bool]) -> bool:
        if not self.has_pause_permission(request):
            raise PermissionDenied
        try:
            return change(run_id, reason=_reason(request), actor=request.user)
        except RunNotFound as error:
            raise Http404(str(error)) from error


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    """The workflows and queues that are paused."""

    list_display = ("what", "name", "since", "actor", "reason")
    list_display_links = None
    fields = ("scope", "name", "paused_at", "actor", "reason")
    search_fields = ()
    actions = ("resume",)
    change_list_template = "workflow_engine/admin/pauses.html"

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(PAUSE)

    @admin.action(description=gettext_lazy("Resume selected workflows and queues"), permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Pause]) -> None:
        kernel, actor = get_kernel(), actor_name(request.user)
        chosen = list(queryset.order_by().values_list("scope", "name")[:MOST_AT_ONCE])
        done = [kernel.dispatch(ResumeWork(scope=scope, name=name, actor=actor)).changed for scope, name in chosen]
        names = ", ".join(name for (_scope, name), changed in zip(chosen, done, strict=True) if changed)
        if names:
            self.message_user(request, _("Resumed: %(names)s") % {"names": names}, messages.SUCCESS)
        else:
            self.message_user(request, _("Nothing to resume: they were not paused any more."), messages.WARNING)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.pause_view))
        return [path("pause/", view, name="workflow_engine_pause_pause"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        workflows = get_kernel().ports.known_workflows() if self.has_pause_permission(request) else None
        return super().changelist_view(request, {**(extra_context or {}), "pausable_workflows": workflows})

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_pause_permission(request):
            raise PermissionDenied
        scope, name = request.POST.get("scope", ""), request.POST.get("name", "").strip()
        command = PauseWork(scope=scope, name=name, reason=_reason(request), actor=actor_name(request.user))
        try:
            changed = get_kernel().dispatch(command).changed
        except (InvalidInput, WorkflowNotFound) as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            text = _("Paused: %(name)s") if changed else _("Paused already: %(name)s")
            self.message_user(request, text % {"name": name}, messages.SUCCESS if changed else messages.WARNING)
        return HttpResponseRedirect(reverse("admin:workflow_engine_pause_changelist"))

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: Pause) -> str:
        return str(row.get_scope_display())

    @admin.display(description=gettext_lazy("since"))
    def since(self, row: Pause) -> str:
        return age(row.paused_at, now())


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\x00", "").strip()


def _page(run_id: uuid.UUID) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:workflow_engine_workflowrun_change", args=[run_id]))
