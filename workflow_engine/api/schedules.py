"""``schedules/``: workflows that run at the times of cron expressions; list, make, change, delete, preview, run now."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Annotated, Any, Literal

from django.core.exceptions import PermissionDenied
from pydantic import Field, StrictBool, StrictStr
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.errors import InvalidInput, WorkflowEngineError
from workflow_engine.kernel.commands import ChangeSchedule, CreateSchedule, DeleteSchedule, RunSchedule
from workflow_engine.kernel.schedules.cron import FireTime
from workflow_engine.models import Schedule
from workflow_engine.redaction import redact
from workflow_engine.running import actor_name
from workflow_engine.scheduling import MOST_TIMES, find_schedule, next_times

from .base import EngineView
from .bodies import Body
from .pages import RunPages, read_number
from .permissions import (
    ADD,
    ADD_SCHEDULE,
    CHANGE_SCHEDULE,
    DELETE_SCHEDULE,
    RUN_SCHEDULE,
    VIEW_SCHEDULE,
    may_see_payloads,
)
from .problems import InvalidBody
from .serializers import ScheduleSerializer

SHOWN_TIMES = 10
_Text = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class NewSchedule(Body):
    """The body of ``POST schedules/``; the arguments of ``create_schedule``."""

    name: _Text
    workflow_id: _Text
    cron: _Text
    timezone: _Text = "UTC"
    input: Any = None
    overlap: Literal["skip", "queue", "allow"] = "skip"
    catch_up: Literal["none", "one", "all"] = "one"
    enabled: StrictBool = True


class ScheduleChanges(NewSchedule):
    """The body of ``PATCH schedules/{id}/``: what is left out stays."""

    name: _Text = ""
    workflow_id: _Text = ""
    cron: _Text = ""


class ScheduleList(EngineView):
    # And what a run needs: who makes a schedule makes runs.
    needs = {"get": VIEW_SCHEDULE, "post": ADD_SCHEDULE}

    def get(self, request: Request) -> Response:
        """Return schedules, newest first; ``?limit=50``."""
        pages = RunPages()
        found: Any = pages.paginate_queryset(Schedule.objects.using(get_setting("DATABASE")), request, view=self)
        return pages.get_paginated_response(ScheduleSerializer(found, many=True).data)

    def post(self, request: Request) -> Response:
        """Make a schedule: 201 with its ``Location``."""
        _ask(request)
        body = self.read_body(NewSchedule)
        try:
            made = get_kernel().dispatch(CreateSchedule(**body.model_dump(), actor=actor_name(request.user)))
        except WorkflowEngineError as error:
            raise _of_body(error) from error
        headers = {"Location": self.address("schedule", schedule_id=made.schedule_id)}
        return Response(_shown(request, made.schedule_id), status=201, headers=headers)


class ScheduleDetail(EngineView):
    needs = {"get": VIEW_SCHEDULE, "patch": CHANGE_SCHEDULE, "delete": DELETE_SCHEDULE}
    http_method_names = ("get", "head", "patch", "delete")

    def get(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Return a schedule with its ``next`` ten times; ``input`` for holders of ``view_payload``."""
        return Response(_shown(request, schedule_id))

    def patch(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Change what the body names."""
        _ask(request)
        body = self.read_body(ScheduleChanges)
        changes = {name: getattr(body, name) for name in body.model_fields_set}
        if "workflow_id" in changes:
            changes["workflow"] = changes.pop("workflow_id")
        try:
            get_kernel().dispatch(ChangeSchedule(schedule_id=schedule_id, changes=changes))
        except WorkflowEngineError as error:
            raise _of_body(error) from error
        return Response(_shown(request, schedule_id))

    def delete(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Delete a schedule; its runs stay: 204."""
        get_kernel().dispatch(DeleteSchedule(schedule_id=find_schedule(schedule_id).pk))
        return Response(status=204)


class ScheduleRun(EngineView):
    needs = {"post": RUN_SCHEDULE}

    def post(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Start a run now, whatever goes on: 201 ``{"run_id"}`` with the run's ``Location``."""
        self.read_body(Body)
        command = RunSchedule(schedule_id=schedule_id, actor=actor_name(request.user))
        run_id = get_kernel().dispatch(command).run_id
        return Response({"run_id": run_id}, status=201, headers={"Location": self.address("run", run_id=run_id)})


class ScheduleNext(EngineView):
    needs = {"get": VIEW_SCHEDULE}

    def get(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Return the next times of a schedule; ``?count=10``."""
        row = find_schedule(schedule_id)
        return _times(request, row.cron, row.timezone)


class SchedulePreview(EngineView):
    needs = {"get": VIEW_SCHEDULE}

    def get(self, request: Request) -> Response:
        """Return the next times of an expression that nobody has saved: ``?cron=…&timezone=UTC&count=10``."""
        return _times(request, request.query_params.get("cron", ""), request.query_params.get("timezone", "UTC"))


def _ask(request: Request) -> None:
    if not request.user.has_perm(ADD):
        raise PermissionDenied


def _times(request: Request, cron: str, timezone: str) -> Response:
    count = read_number(request, "count", default=SHOWN_TIMES, least=1, most=MOST_TIMES)
    try:
        times = next_times(cron, timezone, count=count)
    except InvalidInput as error:
        raise InvalidBody(error.errors, code=error.code) from error
    return Response({"cron": cron, "timezone": timezone, "next": [_time(one) for one in times]})


def _time(one: FireTime) -> dict[str, Any]:
    at = one.at.isoformat().replace("+00:00", "Z")
    return {"at": at, "local": one.local.isoformat(), "notes": list(one.notes)}


def _shown(request: Request, schedule_id: uuid.UUID) -> dict[str, Any]:
    row = find_schedule(schedule_id)
    shown: dict[str, Any] = {**ScheduleSerializer(row).data, "next": []}
    if row.enabled:
        try:
            shown["next"] = [_time(one) for one in next_times(row.cron, row.timezone, count=SHOWN_TIMES)]
        except WorkflowEngineError as error:
            # What was right when it was saved need not be any more; its row can be mended all the same.
            shown["error"] = shown["error"] or str(error)
    if may_see_payloads(request):
        shown["input"] = redact(row.input)
    return shown


def _of_body(error: WorkflowEngineError) -> Exception:
    """Return an error of a command as one of the body, if it is one."""
    if not isinstance(error, InvalidInput):
        return error
    errors = [replace(item, path="workflow_id") if item.path == "workflow" else item for item in error.errors]
    return InvalidBody(errors, code=error.code)
