"""``bulk-operations/``: change many runs in the background, look how far that is, stop it."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.bulk import find_operation
from workflow_engine.errors import FieldError, InvalidInput, RunNotFound
from workflow_engine.kernel.commands import CancelBulk, StartBulk
from workflow_engine.models.bulk import PERMISSIONS
from workflow_engine.running import actor_name
from workflow_engine.statuses import BulkKind, TargetOutcome

from .base import EngineView
from .bodies import BulkFilter, NewBulkOperation, read_idempotency_key
from .permissions import VIEW, VIEW_BULK
from .problems import InvalidBody
from .runs import check_values, runs
from .serializers import BulkOperationSerializer

MOST_FAILURES = 100


class BulkOperationList(EngineView):
    # And the permission of the action: who chooses runs by a filter learns how many fit it.
    needs = {"post": VIEW}

    def post(self, request: Request) -> Response:
        """Change the runs that fit ``filter``: 202 with the operation and its ``Location``.

        ``{"action": "cancel" | "pause" | "resume" | "rerun", "filter": {"workflow"?, "status"?, "created_before"?,
        "ids"?}, "reason"?, "stage"?, "config"?}``
        """
        body, key = self.read_body(NewBulkOperation), read_idempotency_key(request.headers.get("Idempotency-Key"))
        _check_permission(request, body.action)
        _check_fields(body)
        command = StartBulk(
            kind=body.action,
            runs=_chosen(body.filter),
            reason=body.reason,
            stage_id=body.stage,
            config=body.config,
            actor=actor_name(request.user),
            selection=body.filter.model_dump(mode="json"),
            idempotency_key=key,
            idempotency_scope=f"user:{request.user.pk}",
        )
        try:
            result = get_kernel().dispatch(command)
        except InvalidInput as error:
            raise InvalidBody(error.errors, code=error.code) from error
        headers = {"Location": self.address("bulk-operation", operation_id=result.operation_id)}
        if result.replayed:
            headers["Idempotency-Replayed"] = "true"
        return Response(_shown(result.operation_id), status=202, headers=headers)


class BulkOperationDetail(EngineView):
    needs = {"get": VIEW_BULK}

    def get(self, request: Request, operation_id: uuid.UUID) -> Response:
        """Return how far it is, and ``failures``: the first 100 runs that failed, with messages."""
        operation = find_operation(operation_id)
        failed = operation.targets.using(operation._state.db).filter(outcome=TargetOutcome.FAILED).order_by("id")
        failures = list(failed.values("run_id", "message")[:MOST_FAILURES])
        return Response({**BulkOperationSerializer(operation).data, "failures": failures})


class BulkOperationCancel(EngineView):
    needs = {"post": VIEW_BULK}

    def post(self, request: Request, operation_id: uuid.UUID) -> Response:
        """Let it go no further: ``{"cancelled", "status"}``; ``cancelled`` is false if it had ended."""
        _check_permission(request, find_operation(operation_id).kind)
        result = get_kernel().dispatch(CancelBulk(operation_id=operation_id))
        return Response({"cancelled": result.cancelled, "status": result.status})


def _shown(operation_id: uuid.UUID) -> Any:
    return BulkOperationSerializer(find_operation(operation_id)).data


def _check_permission(request: Request, action: str) -> None:
    """Raises ``PermissionDenied`` for who may not do this with one run."""
    if not request.user.has_perm(PERMISSIONS[BulkKind(action)]):
        raise PermissionDenied


def _check_fields(body: NewBulkOperation) -> None:
    problems = []
    if not body.filter.model_fields_set:
        known = ", ".join(BulkFilter.model_fields)
        problems.append(FieldError("filter", f"must say which runs, by one or several of: {known}", "missing"))
    if body.action == BulkKind.RERUN:
        if body.stage is None:
            problems.append(FieldError("stage", "must be the id of the first stage to run again", "missing"))
        unfit = {"reason"}
    else:
        unfit = {"stage", "config"}
    for name in sorted(unfit & body.model_fields_set):
        problems.append(FieldError(name, f"does not belong to the action {body.action.value!r}", "unexpected"))
    if problems:
        raise InvalidBody(problems)
    check_values({"reason": body.reason, "config": body.config, "stage": body.stage})
    names = [body.filter.workflow] if isinstance(body.filter.workflow, str) else body.filter.workflow
    check_values({"filter.workflow": names})


def _chosen(wanted: BulkFilter) -> Any:
    """Return the runs that fit, the oldest first. Raises ``RunNotFound`` for an id that no run has."""
    rows = runs().order_by("id")
    if wanted.ids is not None:
        known = set(runs().filter(pk__in=wanted.ids).values_list("pk", flat=True))
        unknown = [run_id for run_id in wanted.ids if run_id not in known]
        if unknown:
            raise RunNotFound(unknown[0])
        rows = rows.filter(pk__in=wanted.ids)
    if wanted.workflow is not None:
        rows = rows.filter(workflow__in=[wanted.workflow] if isinstance(wanted.workflow, str) else wanted.workflow)
    if wanted.status is not None:
        rows = rows.filter(status__in=wanted.status if isinstance(wanted.status, list) else [wanted.status])
    if wanted.created_before is not None:
        rows = rows.filter(created_at__lt=wanted.created_before)
    return rows
