"""Deliveries: what subscribers have still to hear of, and what they have refused for good."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import ReplayDeadLetters
from workflow_engine.models import DeadLetter, EventCursor

from .base import MOST_AT_ONCE, ReadOnlyAdmin
from .columns import cut, run_link


@admin.register(EventCursor)
class EventCursorAdmin(ReadOnlyAdmin):
    list_display = ("subscriber", "run_page", "last_sequence", "target", "due_at", "tries", "problem")
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    fields = ("subscriber", "run_page", "last_sequence", "target", "due_at", "tries", "error")

    @admin.display(description=_("run"))
    def run_page(self, row: EventCursor) -> str:
        return run_link(row.run_id)

    @admin.display(description=_("last error"))
    def problem(self, row: EventCursor) -> str:
        return cut(row.error)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("type", "subscriber", "run_page", "sequence", "died_at", "tries", "problem", "replay_at")
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    fields = ("type", "subscriber", "run_page", "sequence", "died_at", "tries", "error", "replay_at")
    actions = ("replay",)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflow_engine.replay_deadletter")

    @admin.action(description=_("Deliver selected dead letters again"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        ids = tuple(queryset.order_by().values_list("pk", flat=True)[:MOST_AT_ONCE])
        count = get_kernel().dispatch(ReplayDeadLetters(ids=ids, max=MOST_AT_ONCE)).replayed
        text = ngettext(
            "%(count)d event will be delivered again.", "%(count)d events will be delivered again.", count
        ) % {"count": count}
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    @admin.display(description=_("run"))
    def run_page(self, row: DeadLetter) -> str:
        return run_link(row.run_id)

    @admin.display(description=_("last error"))
    def problem(self, row: DeadLetter) -> str:
        return cut(row.error)
