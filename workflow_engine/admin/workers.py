"""Worker processes."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflow_engine.models import WorkerHeartbeat

from .base import ReadOnlyAdmin, now
from .columns import age, bar, chip


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("name", "state", "busy", "zombies", "host", "pid", "version", "last_beat", "started_at")
    ordering = ("-lease_until", "-pk")
    search_fields = ("id",)
    unread = ("workflows",)
    fields = (
        ("name", "state"),
        "id",
        ("host", "pid", "version"),
        ("busy", "checking", "zombies"),
        "taken_queues",
        "known_workflows",
        ("started_at", "beat_at", "lease_until", "stopped_at"),
    )

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: WorkerHeartbeat) -> SafeString:
        if row.has_died:
            return chip("lost", _("Died"))
        if row.stopped_at is not None:
            return chip("stopped", _("Stopped"))
        return chip("running", _("Alive")) if row.lease_until >= now() else chip("lost", _("Lost"))

    @admin.display(description=gettext_lazy("busy"))
    def busy(self, row: WorkerHeartbeat) -> SafeString:
        return bar(row.running, row.slots, f"{row.running}/{row.slots}")

    @admin.display(description=gettext_lazy("last beat"))
    def last_beat(self, row: WorkerHeartbeat) -> str:
        return _("%(span)s ago") % {"span": age(row.beat_at, now())}

    @admin.display(description=gettext_lazy("queues"))
    def taken_queues(self, row: WorkerHeartbeat) -> str:
        return _("every queue") if row.queues is None else ", ".join(row.queues)

    @admin.display(description=gettext_lazy("workflows"))
    def known_workflows(self, row: WorkerHeartbeat) -> str:
        return ", ".join(row.workflows) or _("none")
