"""Idempotency keys that were used."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import IdempotencyKey

from .base import ReadOnlyAdmin
from .columns import json_block, run_link


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("start", "command", "created_at", "run_page")
    # Their primary key is a digest, which has no order; the index on their age is for pruning, and serves this.
    ordering = ("-created_at", "-pk")
    search_fields = ("run_id",)
    search_help_text = _("The exact id of a run")
    unread = ("result",)
    fields = ("digest", "command", "answer", "created_at", "run_page")

    @admin.display(description=_("digest"))
    def start(self, row: IdempotencyKey) -> str:
        return f"{row.digest[:12]}…"

    @admin.display(description=_("result"))
    def answer(self, row: IdempotencyKey) -> str:
        return json_block(row.result)

    @admin.display(description=_("run"))
    def run_page(self, row: IdempotencyKey) -> str:
        return run_link(row.run_id)
