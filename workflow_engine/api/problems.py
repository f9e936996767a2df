"""Errors as RFC 9457 problem documents: ``application/problem+json``. No document repeats a value it was sent.

``{"type", "title", "status", "detail", "code", "errors": [{"pointer", "code", "detail"}]}``
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DataError, Error
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from workflow_engine.errors import (
    BulkOperationNotFound,
    DatabaseConflict,
    DatabaseUnavailable,
    ExtraMissing,
    FieldError,
    IdempotencyConflict,
    IdempotencyInProgress,
    InvalidConfig,
    InvalidInput,
    InvalidPayload,
    InvalidTransition,
    PayloadTooLarge,
    RunNotFound,
    ScheduleNotFound,
    StageNotFound,
    StaleLease,
    WebhookNotFound,
    WorkflowEngineError,
    WorkflowNotFound,
)
from workflow_engine.kernel.conflicts import is_conflict, is_lost

logger = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 1
# A body of a megabyte can hold a hundred thousand mistakes.
MOST_ERRORS, LONGEST_PATH = 100, 300
# The first that fits counts: subclasses stand before their bases.
STATUSES: tuple[tuple[type[WorkflowEngineError], int], ...] = (
    (WorkflowNotFound, 404),
    (RunNotFound, 404),
    (StageNotFound, 404),
    (BulkOperationNotFound, 404),
    (ScheduleNotFound, 404),
    (WebhookNotFound, 404),
    (InvalidInput, 422),
    (InvalidConfig, 422),
    (PayloadTooLarge, 413),
    (InvalidPayload, 422),
    (InvalidTransition, 409),
    (StaleLease, 409),
    (IdempotencyConflict, 422),
    (IdempotencyInProgress, 409),
    (ExtraMissing, 501),
    (DatabaseConflict, 503),
    (DatabaseUnavailable, 503),
)


class InvalidBody(Exception):
    """The body does not fit; every field that is wrong is listed. Paths are dotted, from the body's top."""

    def __init__(self, errors: Sequence[FieldError], code: str = "INVALID_BODY") -> None:
        self.errors, self.code = tuple(errors), code
        super().__init__("; ".join(map(str, errors)))


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem document of an error; None for a fault of ours, which Django reports."""
    response = _respond(error)
    if response is not None:
        set_rollback()
    return response


def document_of(error: Exception) -> dict[str, Any]:
    """Return the problem document of an error that is one of several in an answer. Raises it, if it is a fault."""
    response = _respond(error)
    if response is None or response.status_code == 503:
        raise error
    document: dict[str, Any] = response.data
    return document


def _respond(error: Exception) -> Response | None:
    if isinstance(error, InvalidBody):
        return problem(422, error.code, _("The body does not fit."), errors=error.errors)
    if isinstance(error, WorkflowEngineError):
        return _of_engine(error)
    if isinstance(error, Http404):
        return problem(404, "NOT_FOUND", _("There is nothing under this address."))
    if isinstance(error, PermissionDenied):
        return problem(403, "PERMISSION_DENIED", _("You may not do this."))
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, DataError):
        return problem(422, InvalidPayload.code, _("A value cannot be stored by the database."))
    if isinstance(error, Error) and (is_lost(error) or is_conflict(error)):
        logger.warning("database away error=%s", error)
        return _later(DatabaseUnavailable.code)
    return None


def _of_engine(error: WorkflowEngineError) -> Response | None:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), None)
    if status is None:
        return None
    if status == 503:
        logger.warning("database away error=%s", error)
        return _later(error.code)
    response = problem(status, error.code, _detail(error), errors=getattr(error, "errors", ()))
    if isinstance(error, IdempotencyInProgress):
        response["Retry-After"] = str(RETRY_SECONDS)
    return response


def _detail(error: WorkflowEngineError) -> str:
    if isinstance(error, WorkflowNotFound):
        # The error's own text repeats what was sent.
        return _("No workflow of this id is registered here.")
    if isinstance(error, StageNotFound):
        return _("The plan of the run has no stage of this id.")
    return str(error)


def _of_framework(error: exceptions.APIException) -> Response:
    code = str(getattr(error.detail, "code", error.default_code)).upper()
    # Some details of the framework repeat what was sent: a media type, a method.
    own = isinstance(error, exceptions.UnsupportedMediaType | exceptions.MethodNotAllowed)
    detail = HTTPStatus(error.status_code).phrase if own else str(error.detail)
    response = problem(error.status_code, code, detail)
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(int(wait))
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    return response


def _later(code: str) -> Response:
    response = problem(503, code, _("The database cannot be reached; nothing was written. Try again later."))
    response["Retry-After"] = str(RETRY_SECONDS)
    return response


def problem(status: int, code: str, detail: str, *, errors: Sequence[FieldError] = ()) -> Response:
    """Return a problem document."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = [
            {"pointer": _pointer(item.path[:LONGEST_PATH]), "code": item.code, "detail": item.message}
            for item in errors[:MOST_ERRORS]
        ]
    return Response(body, status=status, content_type=CONTENT_TYPE)


def _pointer(path: str) -> str:
    """Return a dotted path as JSON Pointer (RFC 6901); the value itself is the empty pointer."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path.split(".")) if path else ""
