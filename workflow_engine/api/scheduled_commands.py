"""``scheduled-commands/``: what is to be carried out later; list, cancel."""

from __future__ import annotations

import uuid

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.kernel.commands import CancelScheduled
from workflow_engine.models import ScheduledCommand
from workflow_engine.statuses import ScheduledStatus

from .base import EngineView
from .bodies import Body
from .pages import RunPages, read_choices
from .permissions import CANCEL_SCHEDULED, VIEW_SCHEDULED, may_see_payloads
from .serializers import ScheduledCommandSerializer, ScheduledPayloadSerializer


class ScheduledCommandList(EngineView):
    needs = {"get": VIEW_SCHEDULED}

    def get(self, request: Request) -> Response:
        """Return commands, newest first; ``?status=PENDING&correlation_id=…&limit=50``. With what they hold for holders
        of ``view_payload``."""
        rows = ScheduledCommand.objects.using(get_setting("DATABASE"))
        if statuses := read_choices(request, "status", ScheduledStatus.values):
            rows = rows.filter(status__in=statuses)
        if (correlation := request.query_params.get("correlation_id")) is not None:
            rows = rows.filter(correlation_id=correlation) if correlation.isprintable() else rows.none()
        pages = RunPages()
        found = pages.paginate_queryset(rows, request, view=self)
        shown = ScheduledPayloadSerializer if may_see_payloads(request) else ScheduledCommandSerializer
        return pages.get_paginated_response(shown(found, many=True).data)


class ScheduledCommandCancel(EngineView):
    needs = {"post": CANCEL_SCHEDULED}

    def post(self, request: Request, command_id: uuid.UUID) -> Response:
        """Cancel a command: ``{"cancelled", "status"}``; ``cancelled`` is false if it does not wait any more."""
        self.read_body(Body)
        rows = ScheduledCommand.objects.using(get_setting("DATABASE")).filter(pk=command_id)
        cancelled = get_kernel().dispatch(CancelScheduled(command_id=command_id)).cancelled
        status = rows.values_list("status", flat=True).first()
        if status is None:
            raise Http404
        return Response({"cancelled": cancelled, "status": status})
