"""``runs/``: list, create, look at, cancel."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.definitions.stages import MAX_ID_LENGTH
from workflow_engine.errors import (
    FieldError,
    InvalidConfig,
    InvalidInput,
    InvalidPayload,
    RunNotFound,
    WorkflowNotFound,
)
from workflow_engine.kernel.commands import CancelRun
from workflow_engine.kernel.payloads import check_column, check_json
from workflow_engine.models import WorkflowRun
from workflow_engine.models.awaited import stage_rows
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.running import actor_name, create_run
from workflow_engine.statuses import RunStatus

from .base import EngineView
from .bodies import Cancellation, NewRun, read_idempotency_key
from .pages import RunPages, read_choices
from .payloads import show_input, show_output
from .permissions import ADD, CANCEL, VIEW, may_see_payloads
from .problems import InvalidBody
from .serializers import RunSerializer, StageSummarySerializer
from .stages import show_stages

MOST_STAGES = 1000
# Columns of stages that may be large and are not shown.
UNREAD = ("config", "item", "output", "state")


class RunList(EngineView):
    needs = {"get": VIEW, "post": ADD}

    def get(self, request: Request) -> Response:
        """Return runs, newest first; ``?workflow=a,b&status=FAILED&status=CANCELLED&parent_run=<id>&limit=50``."""
        rows = runs()
        if statuses := read_choices(request, "status", RunStatus.values):
            rows = rows.filter(status__in=statuses)
        if workflows := _workflow_ids(request):
            rows = rows.filter(workflow__in=workflows)
        if (parent := request.query_params.get("parent_run")) is not None:
            rows = rows.filter(parent_run=_read_id("parent_run", parent))
        pages = RunPages()
        found: Any = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(RunSerializer(found, many=True).data)

    def post(self, request: Request) -> Response:
        """Create a run: 201 with its ``Location``; 200 if the ``Idempotency-Key`` was used for it before."""
        key = read_idempotency_key(request.headers.get("Idempotency-Key"))
        run = self._create(request, self.read_body(NewRun), key)
        headers = {"Location": self.address("run", run_id=run.pk)}
        if not run.was_created:
            headers["Idempotency-Replayed"] = "true"
        return Response(RunSerializer(run).data, status=201 if run.was_created else 200, headers=headers)

    def _create(self, request: Request, body: NewRun, key: str | None) -> WorkflowRun:
        check_new_run(body)
        try:
            return create_run(
                body.workflow_id,
                body.input,
                config=body.config,
                priority=body.priority,
                metadata=body.metadata,
                annotations=body.annotations,
                run_at=body.run_at,
                idempotency_key=key,
                idempotency_scope=f"user:{request.user.pk}",
                actor=request.user,
            )
        except (WorkflowNotFound, InvalidInput, InvalidConfig) as error:
            raise of_body(error) from error


def of_body(error: Exception) -> Exception:
    """Return an error of ``create_run`` as one of the body, if it is one."""
    if isinstance(error, WorkflowNotFound):
        problem = FieldError("workflow_id", "no workflow of this id is registered here", "unknown")
        return InvalidBody([problem], code=error.code)
    if isinstance(error, InvalidInput | InvalidConfig):
        field = "input" if isinstance(error, InvalidInput) else "config"
        return InvalidBody([under(field, item) for item in error.errors], code=error.code)
    return error


class RunDetail(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, run_id: uuid.UUID) -> Response:
        """Return a run, why it waits, and its stages; ``input`` and ``output`` for holders of ``view_payload``."""
        run = find_run(run_id, "data")
        body = {
            **RunSerializer(run).data,
            "waiting": waiting_reason(run, get_kernel().ports.clock.now()),
            "stages": show_stages(run, stage_rows(run).defer(*UNREAD)[:MOST_STAGES], StageSummarySerializer),
        }
        if may_see_payloads(request):
            body |= {"input": show_input(run), "output": show_output(run)}
        return Response(body)


class RunCancel(EngineView):
    needs = {"post": CANCEL}

    def post(self, request: Request, run_id: uuid.UUID) -> Response:
        """Cancel a run: ``{"reason"?}`` -> ``{"cancelled", "status"}``; ``cancelled`` is false if it had ended."""
        body = self.read_body(Cancellation)
        check_values({"reason": body.reason})
        command = CancelRun(run_id=run_id, reason=body.reason, actor=actor_name(request.user))
        result = get_kernel().dispatch(command)
        return Response({"cancelled": result.cancelled, "status": result.status})


def runs() -> WorkflowRunQuerySet:
    return WorkflowRun.objects.using(get_setting("DATABASE"))


def find_run(run_id: uuid.UUID, *related: str) -> WorkflowRun:
    """Return the run. Raises ``RunNotFound``."""
    rows = runs().select_related(*related) if related else runs()
    run = rows.filter(pk=run_id).first()
    if run is None:
        raise RunNotFound(run_id)
    return run


def _read_id(name: str, text: str) -> uuid.UUID:
    """Return an id of the query. Raises ``ParseError``."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ParseError(_("%(name)s must be the id of a run.") % {"name": name}) from None


def _workflow_ids(request: Request) -> list[str]:
    """Return the ids to filter by. Text that can be no id matches no run, as an unknown id does."""
    given = [item for text in request.query_params.getlist("workflow") for item in text.split(",") if item]
    return [item if item.isprintable() and len(item) <= MAX_ID_LENGTH else "?" for item in given]


def check_new_run(body: NewRun) -> None:
    """Refuse what no database stores, with the field's name. Raises ``InvalidBody``."""
    check_values({"input": body.input, "config": body.config})
    check_values({"metadata": body.metadata, "annotations": body.annotations}, check_column)


def check_values(values: dict[str, Any], check: Callable[[Any], None] = check_json) -> None:
    """Raises ``InvalidBody`` for values that no database stores; ``values`` by the body's fields."""
    for name, value in values.items():
        try:
            check(value)
        except InvalidPayload as error:
            raise InvalidBody([under(name, FieldError(error.path, error.problem, "not_storable"))]) from error


def under(field: str, error: FieldError) -> FieldError:
    path = f"{field}.{error.path}" if error.path else field
    return FieldError(path, error.message, error.code)
