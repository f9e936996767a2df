"""``runs/{id}/stages/{stage_id}/items/``: the items of a mapped stage, page by page, and one with its data."""

from __future__ import annotations

import uuid

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.errors import StageNotFound
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.awaited import item_rows
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import StageStatus

from .base import EngineView
from .pages import AfterPage, read_choices
from .payloads import show_value
from .permissions import VIEW, may_see_payloads
from .runs import find_run
from .serializers import StageSerializer
from .stages import show_stages


class StageItems(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID, stage_id: str) -> Response:
        """Return items in their order; ``?status=FAILED&after=<index>&limit=200``. Empty for a stage without items."""
        run, page = find_run(run_id, "data"), AfterPage(request, "map_index", start=-1)
        rows = _items(run, stage_id).defer("config", "item", "output", "state")
        if statuses := read_choices(request, "status", StageStatus.values):
            rows = rows.filter(status__in=statuses)
        return page.answer(page.rows_of(rows), lambda shown: show_stages(run, shown, StageSerializer))


class StageItem(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID, stage_id: str, item: int) -> Response:
        """Return one item by its index, from 0; ``input`` and ``output`` for holders of ``view_payload``."""
        run = find_run(run_id, "data")
        row = _items(run, stage_id).filter(map_index=min(item, 2**31 - 1)).first()
        if row is None:
            raise Http404(f"Stage {stage_id!r} has no item {item}.")
        (body,) = show_stages(run, [row], StageSerializer)
        if may_see_payloads(request):
            body = {**body, "input": show_value(row.item), "output": _output(row)}
        return Response(body)


def _items(run: WorkflowRun, stage_id: str) -> StageRunQuerySet:
    planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
    if stage_id not in planned:
        raise StageNotFound(run.workflow, stage_id, planned)
    return item_rows(run, stage_id)


def _output(row: StageRun) -> object:
    return show_value(row.output) if row.status == StageStatus.COMPLETED else None
