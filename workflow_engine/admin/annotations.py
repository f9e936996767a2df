"""Annotations: facts recorded about runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from workflow_engine.models import WorkflowAnnotation
from workflow_engine.redaction import redact

from .base import ReadOnlyAdmin
from .columns import compact, cut, json_block, run_link


@admin.register(WorkflowAnnotation)
class WorkflowAnnotationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "key", "fact", "stage", "actor", "run_page")
    list_display_links = ("key",)
    search_fields = ("run_id", "id")
    search_help_text = _("The exact id of a run or annotation")
    fields = ("created_at", "key", "content", "stage", "generation", "attempt", "actor", "run_page")

    @admin.display(description=_("value"))
    def fact(self, row: WorkflowAnnotation) -> str:
        return cut(compact(said(row)))

    @admin.display(description=_("value"))
    def content(self, row: WorkflowAnnotation) -> str:
        return json_block(said(row))

    @admin.display(description=_("run"))
    def run_page(self, row: WorkflowAnnotation) -> str:
        return run_link(row.run_id)


def said(row: WorkflowAnnotation) -> Any:
    """Return the value, masked if the key says that it is a secret."""
    return redact({row.key: row.value})[row.key]
