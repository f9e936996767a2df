"""Webhooks: made and changed by a form, tested and given new secrets by buttons; and the log of what was sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.db.transaction import non_atomic_requests
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.errors import WebhookNotFound
from workflow_engine.kernel.commands import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    RotateWebhook,
    TryWebhook,
)
from workflow_engine.models import WebhookDelivery, WebhookEndpoint
from workflow_engine.running import actor_name

from .base import MOST_AT_ONCE, ReadOnlyAdmin
from .columns import chip, cut, run_link, short
from .webhook_form import FIELDS, WebhookForm

SHOWN_DELIVERIES = 20
# What the engine writes.
STATE = ("failures", "failing_since", "disabled_at", "disabled_reason", "previous_until", "created_by", "created_at")


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnlyAdmin):
    """Unlike other rows these are written by people. Secrets are shown once, on the page that answers their making."""

    form = WebhookForm
    list_display = ("__str__", "host", "state", "heard", "failures", "failing_since", "problem")
    fields = (*FIELDS, "active")
    actions = ("enable", "disable")
    search_fields = ("id",)
    change_form_template = "workflow_engine/admin/webhook.html"
    has_add_permission = admin.ModelAdmin.has_add_permission
    has_change_permission = admin.ModelAdmin.has_change_permission
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields if obj is None else (*self.fields, *STATE)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return () if obj is None else STATE

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in form.cleaned_data.items()
            if name in FIELDS and (not change or name in form.changed_data)
        }
        kernel, actor = get_kernel(), actor_name(request.user)
        if not change:
            made = kernel.dispatch(CreateWebhook(**given, active=form.cleaned_data["active"], actor=actor))
            obj.pk, request.wfe_secret = made.endpoint_id, made.secret  # type: ignore[attr-defined]
            return
        kernel.dispatch(ChangeWebhook(endpoint_id=obj.pk, **given))
        if "active" in form.changed_data:
            self._switch(obj.pk, form.cleaned_data["active"], actor)

    def _switch(self, endpoint_id: uuid.UUID, active: bool, actor: str) -> bool:
        if active:
            return get_kernel().dispatch(EnableWebhook(endpoint_id=endpoint_id)).changed
        return get_kernel().dispatch(DisableWebhook(endpoint_id=endpoint_id, reason=f"by {actor}")).changed

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self._secret_page(request, obj.pk, request.wfe_secret, _("The webhook is made"))  # type: ignore[attr-defined]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        get_kernel().dispatch(DeleteWebhook(endpoint_id=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for endpoint in list(queryset):
            self.delete_model(request, endpoint)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Not with every request that was ever made to them.
        found = list(objs)
        allowed = self.has_delete_permission(request)
        name = str(self.opts.verbose_name)
        return [str(one) for one in found], {name: len(found)}, set() if allowed else {name}, []

    @admin.action(description=gettext_lazy("Enable selected webhooks"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._switch_all(request, queryset, active=True)
        text = ngettext("Enabled %(count)d webhook.", "Enabled %(count)d webhooks.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    @admin.action(description=gettext_lazy("Disable selected webhooks"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._switch_all(request, queryset, active=False)
        text = ngettext("Disabled %(count)d webhook.", "Disabled %(count)d webhooks.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    def _switch_all(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint], *, active: bool) -> int:
        ids = list(queryset.order_by().values_list("pk", flat=True)[:MOST_AT_ONCE])
        return sum(self._switch(pk, active, actor_name(request.user)) for pk in ids)

    def get_urls(self) -> list[Any]:
        test = non_atomic_requests(get_setting("DATABASE"))(self._guarded(self.test_view))
        return [
            path("<uuid:endpoint_id>/test/", test, name="workflow_engine_webhookendpoint_test"),
            path(
                "<uuid:endpoint_id>/rotate/",
                self._guarded(self.rotate_view),
                name="workflow_engine_webhookendpoint_rotate",
            ),
            *super().get_urls(),
        ]

    def _guarded(self, view: Callable[..., HttpResponse]) -> Any:
        return self.admin_site.admin_view(require_POST(view))

    def test_view(self, request: HttpRequest, endpoint_id: uuid.UUID) -> HttpResponse:
        made = self._dispatch(request, TryWebhook(endpoint_id=endpoint_id))
        facts = {"status": made.status, "ms": made.duration_ms, "error": made.error, "answer": cut(made.response)}
        if made.delivered:
            text = _("The test was delivered: %(status)s in %(ms)s ms. The answer: %(answer)s")
        else:
            text = _("The test was not delivered (%(ms)s ms). %(error)s")
        self.message_user(request, text % facts, messages.SUCCESS if made.delivered else messages.ERROR)
        return HttpResponseRedirect(_address(endpoint_id))

    def rotate_view(self, request: HttpRequest, endpoint_id: uuid.UUID) -> HttpResponse:
        made = self._dispatch(request, RotateWebhook(endpoint_id=endpoint_id))
        endpoint = self.get_object(request, str(endpoint_id))
        if endpoint is not None:
            self.log_change(request, endpoint, _("The secret was rotated."))
        return self._secret_page(request, endpoint_id, made.secret, _("The webhook has a new secret"), rotated=True)

    def _dispatch(self, request: HttpRequest, command: Any) -> Any:
        if not self.has_change_permission(request):
            raise PermissionDenied
        try:
            return get_kernel().dispatch(command)
        except WebhookNotFound as error:
            raise Http404(str(error)) from error

    def _secret_page(
        self, request: HttpRequest, endpoint_id: uuid.UUID, secret: str, title: str, *, rotated: bool = False
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "media": self.media,
            "secret": secret,
            "rotated": rotated,
            "endpoint": self.get_object(request, str(endpoint_id)),
        }
        # Not as a message, which would lie in a cookie or a session until shown; no page of the admin is cached.
        return TemplateResponse(request, "workflow_engine/admin/webhook_secret.html", context)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        extra = dict(extra_context or {})
        extra["may_change_webhook"] = self.has_change_permission(request)
        if request.user.has_perm("workflow_engine.view_webhookdelivery"):
            extra["deliveries"] = _last_deliveries(object_id)
        return super().change_view(request, object_id, form_url, extra)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: WebhookEndpoint) -> SafeString:
        if not row.active:
            return chip("cancelled", _("disabled"))
        return chip("failed", _("failing")) if row.failures else chip("completed", _("active"))

    @admin.display(description=gettext_lazy("hears of"))
    def heard(self, row: WebhookEndpoint) -> str:
        what = ", ".join(row.events) or _("all events")
        if not row.workflows:
            return cut(what)
        return cut(_("%(events)s of %(workflows)s") % {"events": what, "workflows": ", ".join(row.workflows)})

    @admin.display(description=gettext_lazy("disabled because"))
    def problem(self, row: WebhookEndpoint) -> str:
        return cut(row.disabled_reason)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("sent_at", "outcome", "type", "endpoint_page", "run_page", "attempt", "duration_ms", "problem")
    list_filter = ("delivered",)
    search_fields = ("run_id", "endpoint")
    search_help_text = gettext_lazy("The exact id of a run or a webhook")
    unread = ("response",)
    fields = (
        "sent_at", "outcome", "type", "event_id", "endpoint_page", "url", "run_page", "attempt", "duration_ms", "error",
        "response",
    )  # fmt: skip

    @admin.display(description=gettext_lazy("outcome"))
    def outcome(self, row: WebhookDelivery) -> SafeString:
        return delivery_chip(row)

    @admin.display(description=gettext_lazy("webhook"))
    def endpoint_page(self, row: WebhookDelivery) -> SafeString:
        # By its id: it may have been deleted.
        return format_html('<a href="{}" title="{}">{}</a>', _address(row.endpoint_id), row.url, short(row.endpoint_id))

    @admin.display(description=gettext_lazy("run"))
    def run_page(self, row: WebhookDelivery) -> str:
        return run_link(row.run_id)

    @admin.display(description=gettext_lazy("error"))
    def problem(self, row: WebhookDelivery) -> str:
        return cut(row.error)


def delivery_chip(row: WebhookDelivery) -> SafeString:
    return chip("completed" if row.delivered else "failed", str(row.status or _("no answer")))


def _last_deliveries(endpoint_id: str) -> list[dict[str, Any]] | None:
    try:
        known = uuid.UUID(endpoint_id)
    except ValueError:
        return None
    rows = WebhookDelivery.objects.using(get_setting("DATABASE")).filter(endpoint=known).order_by("-pk")
    return [
        {"row": row, "chip": delivery_chip(row), "run": run_link(row.run_id)}
        for row in rows.defer("response")[:SHOWN_DELIVERIES]
    ]


def _address(endpoint_id: uuid.UUID) -> str:
    return reverse("admin:workflow_engine_webhookendpoint_change", args=[endpoint_id])
