"""``runs/{id}/…/``: stages, attempts, logs, events and artifacts of a run."""

from __future__ import annotations

import uuid

from django.db.models import F
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.models import LogLevel, OutboxEvent, StageAttempt, WorkflowArtifact, WorkflowLog
from workflow_engine.models.awaited import stage_rows

from .base import EngineView
from .pages import AfterPage, read_choices
from .permissions import VIEW
from .runs import UNREAD, find_run
from .serializers import ArtifactSerializer, AttemptSerializer, EventSerializer, LogSerializer, StageSerializer
from .stages import show_stages

ITEM = F("stage_run__map_index")


class RunStages(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return the stages that count, in the plan's order; of a mapped one how far its items are."""
        run = find_run(run_id, "data")
        return Response({"results": show_stages(run, stage_rows(run).defer(*UNREAD), StageSerializer)})


class RunLogs(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return log lines, oldest first; ``?after=<id>&level=ERROR&stage=a&limit=200``."""
        run, page = find_run(run_id), AfterPage(request, "id")
        rows = WorkflowLog.objects.using(run._state.db).filter(run=run).annotate(map_index=ITEM)
        if levels := read_choices(request, "level", LogLevel.values):
            rows = rows.filter(level__in=levels)
        if (stage := request.query_params.get("stage")) is not None:
            if not stage.isprintable():
                raise ParseError()
            rows = rows.filter(stage=stage)
        return page.answer(page.rows_of(rows), lambda shown: LogSerializer(shown, many=True).data)


class RunEvents(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return events, oldest first; ``?after=<sequence>&limit=200``."""
        run, page = find_run(run_id), AfterPage(request, "sequence")
        rows = OutboxEvent.objects.using(run._state.db).filter(run=run)
        return page.answer(page.rows_of(rows), lambda shown: EventSerializer(shown, many=True).data)


class RunAttempts(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return the attempts that ended, oldest first; ``?after=<id>&limit=200``."""
        run, page = find_run(run_id), AfterPage(request, "id")
        rows = StageAttempt.objects.using(run._state.db).filter(run=run).annotate(map_index=ITEM).defer("traceback")
        return page.answer(page.rows_of(rows), lambda shown: AttemptSerializer(shown, many=True).data)


class RunArtifacts(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return the files of the stages that count, oldest first."""
        run = find_run(run_id)
        rows = WorkflowArtifact.objects.using(run._state.db).filter(run=run, stage_run__superseded_at__isnull=True)
        rows = rows.annotate(map_index=ITEM).order_by("id")
        return Response({"results": ArtifactSerializer(rows, many=True).data})
