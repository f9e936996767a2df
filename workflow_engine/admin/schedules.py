"""Schedules: the list, the form with its preview, and the runs that each has started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import InvalidInput, WorkflowEngineError
from workflow_engine.kernel.commands import ChangeSchedule, CreateSchedule, DeleteSchedule
from workflow_engine.kernel.schedules.cron import FireTime
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.running import actor_name
from workflow_engine.scheduling import change_schedule, next_times, run_schedule

from .base import MOST_AT_ONCE, ReadOnlyAdmin, may_see_payloads, now
from .columns import MISSING, chip, cut, json_block, moment, run_link
from .schedule_form import ScheduleForm

ADD_RUN = "workflow_engine.add_workflowrun"
SHOWN_TIMES, SHOWN_FIRES = 10, 20
NOTES = {
    "moved": gettext_lazy("moved: the clocks leave out the time that the expression says"),
    "first_of_two": gettext_lazy("the first of two: this hour comes twice"),
    "second_of_two": gettext_lazy("the second of two: this hour comes twice"),
    "clocks_changed": gettext_lazy("the clocks have changed since the time before"),
}


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """Every change is a command. Who makes or changes schedules makes runs, and needs the permission for those too."""

    form = ScheduleForm
    list_display = ("name", "state", "when", "next_due_at", "problem", "workflow", "last_fired_at")
    list_filter = ("enabled", "workflow")
    search_fields = ("id",)
    search_help_text = gettext_lazy("A part of the name, or an exact id")
    ordering: ClassVar[Any] = ("name",)
    actions = ("enable", "disable", "run_now")
    change_form_template = "workflow_engine/admin/schedule.html"
    shown = (
        "state",
        "trouble",
        "times",
        ("next_due_at", "last_fired_at"),
        ("last_skipped_at", "last_skipped_reason"),
        "its_runs",
        ("created_by", "created_at", "changed_at"),
        ("declared", "id"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request) and request.user.has_perm(ADD_RUN)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj) and request.user.has_perm(ADD_RUN)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("workflow_engine.run_schedule")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, several = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        if term and term.isprintable():
            found = found | queryset.filter(name__contains=term)
        return found, several

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields: list[str] = list(ScheduleForm.Meta.fields)
        if obj is not None and not may_see_payloads(request):
            fields.remove("input")
        elif obj is not None and not self.has_change_permission(request, obj):
            fields[fields.index("input")] = "given"
        sets: list[Any] = [(None, {"fields": fields})]
        return sets if obj is None else [*sets, (_("How it goes"), {"fields": self.shown})]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        flat = [name for item in self.shown for name in (item if isinstance(item, tuple) else (item,))]
        if obj is None or self.has_change_permission(request, obj):
            return flat
        return [*ScheduleForm.Meta.fields, "given", *flat]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in form.changed_data if name in form.cleaned_data}
        try:
            if change:
                get_kernel().dispatch(ChangeSchedule(schedule_id=obj.pk, changes=values))
                return
            given = {name: form.cleaned_data[name] for name in ScheduleForm.Meta.fields}
            workflow_id = given.pop("workflow")
            command = CreateSchedule(workflow_id=workflow_id, actor=actor_name(request.user), **given)
            obj.pk = get_kernel().dispatch(command).schedule_id
        except InvalidInput as error:
            # Checked by the form a moment ago: somebody was quicker.
            self.message_user(request, str(error), messages.ERROR)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        get_kernel().dispatch(DeleteSchedule(schedule_id=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for schedule_id in list(queryset.order_by().values_list("pk", flat=True)[:MOST_AT_ONCE]):
            get_kernel().dispatch(DeleteSchedule(schedule_id=schedule_id))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name the schedules: the list of their times goes along, and their runs stay."""
        return [str(obj) for obj in objs], {Schedule._meta.verbose_name_plural: len(objs)}, set(), []

    @admin.action(description=gettext_lazy("Enable selected schedules"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        count = self._each(request, queryset, lambda row: change_schedule(row, enabled=True))
        self._tell(request, ngettext("Enabled %(count)d schedule.", "Enabled %(count)d schedules.", count), count)

    @admin.action(description=gettext_lazy("Disable selected schedules"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        count = self._each(request, queryset, lambda row: change_schedule(row, enabled=False))
        self._tell(request, ngettext("Disabled %(count)d schedule.", "Disabled %(count)d schedules.", count), count)

    @admin.action(description=gettext_lazy("Run selected schedules now"), permissions=["run"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        count = self._each(request, queryset, lambda row: run_schedule(row, actor=request.user))
        self._tell(request, ngettext("Started %(count)d run.", "Started %(count)d runs.", count), count)

    def _each(self, request: HttpRequest, queryset: QuerySet[Schedule], act: Callable[[Schedule], object]) -> int:
        count = 0
        for row in queryset.order_by("name")[:MOST_AT_ONCE]:
            try:
                act(row)
                count += 1
            except WorkflowEngineError as error:
                self.message_user(request, f"{row.name}: {error}", messages.ERROR)
        return count

    def _tell(self, request: HttpRequest, text: str, count: int) -> None:
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.WARNING)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.preview_view))
        return [path("preview/", view, name="workflow_engine_schedule_preview"), *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Show the next times of what stands in the form, whether it is saved or not."""
        if not self.has_view_or_change_permission(request) and not self.has_add_permission(request):
            raise PermissionDenied
        cron, zone = request.POST.get("cron", ""), request.POST.get("timezone", "")
        context = {**self.admin_site.each_context(request), "title": _("Next times"), "cron": cron, "zone": zone}
        try:
            context["times"] = times_table(next_times(cron, zone, count=SHOWN_TIMES), zone)
        except InvalidInput as error:
            context["problems"] = error.errors
        except WorkflowEngineError as error:
            context["problems"] = [str(error)]
        return TemplateResponse(request, "workflow_engine/admin/schedule_preview.html", context)

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {"timezone": settings.TIME_ZONE, **super().get_changeform_initial_data(request)}

    @admin.display(description=gettext_lazy("input"))
    def given(self, row: Schedule) -> SafeString | str:
        return json_block(row.input)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Schedule) -> SafeString:
        if not row.enabled:
            return chip("paused", _("Disabled"))
        return chip("failed", _("Error")) if row.error else chip("completed", _("Enabled"))

    @admin.display(description=gettext_lazy("at"))
    def when(self, row: Schedule) -> SafeString:
        return format_html('<span class="wfe-when">{}</span> {}', row.cron, row.timezone)

    @admin.display(description=gettext_lazy("trouble"))
    def problem(self, row: Schedule) -> str:
        return cut(row.error or row.last_skipped_reason, 80) or MISSING

    @admin.display(description=gettext_lazy("trouble"))
    def trouble(self, row: Schedule) -> SafeString | str:
        if row.error:
            return format_html('<span class="wfe-bad">{}</span>', row.error)
        if row.last_skipped_at is None:
            return MISSING
        facts = {"when": moment(row.last_skipped_at), "why": row.last_skipped_reason}
        return _("%(when)s was skipped: %(why)s") % facts

    @admin.display(description=gettext_lazy("next times"))
    def times(self, row: Schedule) -> SafeString | str:
        if not row.enabled:
            return _("None: it is disabled.")
        try:
            return times_table(next_times(row.cron, row.timezone, count=SHOWN_TIMES, after=now()), row.timezone)
        except WorkflowEngineError as error:
            return str(error)

    @admin.display(description=gettext_lazy("its runs"))
    def its_runs(self, row: Schedule) -> SafeString | str:
        fires = row.fires.using(row._state.db).order_by("-due_at")[:SHOWN_FIRES]
        lines = [(moment(one.due_at), one.get_state_display(), run_link(one.run_id)) for one in fires]
        if not lines:
            return MISSING
        address = f"{reverse('admin:workflow_engine_schedulefire_changelist')}?q={row.pk}"
        listed = format_html_join("", "<div>{} · {} · {}</div>", lines)
        return format_html('<div class="wfe-fires">{}<a href="{}">{}</a></div>', listed, address, _("All"))


def times_table(times: list[FireTime], zone: str) -> SafeString:
    """Return the times of a schedule as a table: in its zone, with the offset, and in UTC; what is odd is marked."""
    rows = [
        (
            f"{one.local:%a %Y-%m-%d %H:%M}",
            one.offset,
            f"{one.at:%Y-%m-%d %H:%M}",
            "; ".join(str(NOTES[note]) for note in one.notes),
        )
        for one in times
    ]
    body = format_html_join("", '<tr><td>{}</td><td>{}</td><td>{}</td><td class="wfe-note">{}</td></tr>', rows)
    head = format_html("<tr><th>{}</th><th>{}</th><th>UTC</th><th></th></tr>", zone, _("offset"))
    return format_html('<table class="wfe-times"><thead>{}</thead><tbody>{}</tbody></table>', head, body)


@admin.register(ScheduleFire)
class ScheduleFireAdmin(ReadOnlyAdmin):
    list_display = ("due_at", "standing", "run_page", "schedule_page", "by_hand")
    list_filter = ("state",)
    list_select_related: ClassVar[Any] = ("schedule",)
    search_fields = ("schedule_id", "run_id")
    search_help_text = gettext_lazy("The exact id of a schedule or run")
    fields = ("schedule_page", "due_at", "standing", "run_page", "fired_at", "by_hand")

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: ScheduleFire) -> SafeString:
        return chip("pending" if row.run_id is None else "completed", row.get_state_display())

    @admin.display(description=gettext_lazy("run"))
    def run_page(self, row: ScheduleFire) -> SafeString | str:
        return run_link(row.run_id)

    @admin.display(description=gettext_lazy("schedule"))
    def schedule_page(self, row: ScheduleFire) -> SafeString | str:
        return schedule_link(row)


def schedule_link(row: ScheduleFire) -> SafeString:
    """Return a link to the schedule of a time, by its name."""
    address = reverse("admin:workflow_engine_schedule_change", args=[row.schedule_id])
    return format_html('<a href="{}">{}</a>', address, row.schedule.name)
