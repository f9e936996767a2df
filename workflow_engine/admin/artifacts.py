"""Artifacts: files that stages wrote, and their download."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from workflow_engine.errors import BlobCorrupt, BlobNotFound
from workflow_engine.models import WorkflowArtifact

from .base import ReadOnlyAdmin, may_see_payloads
from .columns import MISSING, run_link


@admin.register(WorkflowArtifact)
class WorkflowArtifactAdmin(ReadOnlyAdmin):
    list_display = ("name", "bytes", "content_type", "stage", "created_at", "run_page")
    search_fields = ("id", "run_id")
    search_help_text = gettext_lazy("The exact id of an artifact or run")
    fields = ("name", "bytes", "content_type", "sha256", "stage", "created_at", "run_page")
    payload_fields = ("key", "download")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_GET(self.download_view))
        own: list[URLPattern] = [
            path("<uuid:artifact_id>/download/", view, name="workflow_engine_workflowartifact_download")
        ]
        return own + super().get_urls()

    def download_view(self, request: HttpRequest, artifact_id: uuid.UUID) -> FileResponse:
        """Send the file to be saved, never shown: what a stage wrote may be a page with scripts."""
        if not (may_see_payloads(request) and self.has_view_permission(request)):
            raise PermissionDenied
        artifact = self.get_queryset(request).filter(pk=artifact_id).first()
        if artifact is None:
            raise Http404(_("There is no such artifact."))
        try:
            content = artifact.open()
        except (BlobNotFound, BlobCorrupt) as error:
            raise Http404(_("The file is missing from the blob store, or damaged.")) from error
        response = FileResponse(
            content, as_attachment=True, filename=_file_name(artifact.name), content_type="application/octet-stream"
        )
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        response["Cache-Control"] = "private, no-store"
        return response

    @admin.display(description=gettext_lazy("size"))
    def bytes(self, row: WorkflowArtifact) -> str:
        return filesizeformat(row.size)

    @admin.display(description=gettext_lazy("download"))
    def download(self, row: WorkflowArtifact) -> str:
        return format_html('<a href="{}">{}</a>', download_url(row.pk), row.name) if row.pk else MISSING

    @admin.display(description=gettext_lazy("run"))
    def run_page(self, row: WorkflowArtifact) -> str:
        return run_link(row.run_id)


def download_url(artifact_id: uuid.UUID) -> str:
    return reverse("admin:workflow_engine_workflowartifact_download", args=[artifact_id])


def _file_name(name: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f/\\]", "_", name) or "artifact"
