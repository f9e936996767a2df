"""Request bodies: bounded JSON, and what the endpoints that take one accept."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

from django.utils.translation import gettext_lazy as _
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, StringConstraints
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from workflow_engine.definitions.stages import MAX_ID_LENGTH
from workflow_engine.kernel.commands.answer_stage import MOST_ITEMS
from workflow_engine.kernel.idempotency import MAX_KEY_LENGTH
from workflow_engine.models.runs import DEFAULT_PRIORITY
from workflow_engine.statuses import BulkKind, RunStatus


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "payload_too_large"
    default_detail = _("The request body is too large.")


class BoundedJSONParser(BaseParser):
    """Reads JSON in UTF-8, as RFC 8259 has it: a ``charset`` parameter means nothing.

    No more bytes are read than the view's ``max_body_bytes``, whatever ``Content-Length`` says.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        view, request = parser_context["view"], parser_context["request"]
        if _declared_length(request) > view.max_body_bytes:
            raise BodyTooLarge()
        content = stream.read(view.max_body_bytes + 1)
        if len(content) > view.max_body_bytes:
            raise BodyTooLarge()
        try:
            return json.loads(content.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            # Its text may repeat a part of the body.
            raise ParseError(_("The body is not JSON that can be read.")) from error


def _declared_length(request: Any) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _refuse(constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is too large")
    return value


class Body(BaseModel):
    """Fields that nobody knows are errors."""

    model_config = ConfigDict(extra="forbid")


AnnotationKey = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Names = Annotated[list[Name], Field(min_length=1, max_length=100)] | Name
MOST_ITEMS_OF_BULK, MOST_IDS = 500, 10_000
# Far enough for everybody, near enough for the arithmetic of ranks on every database.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2200, 1, 1, tzinfo=UTC))]


class NewRun(Body):
    """The body of ``POST runs/``; the arguments of ``create_run``."""

    workflow_id: StrictStr
    input: Any = None
    config: dict[str, Any] | None = None
    priority: Annotated[StrictInt, Field(ge=0, le=10)] = DEFAULT_PRIORITY
    metadata: dict[str, Any] = {}
    annotations: dict[AnnotationKey, Any] = {}
    run_at: Moment | None = None


class OneOfRuns(NewRun):
    """An item of ``POST runs/bulk/``."""

    idempotency_key: Annotated[StrictStr, Field(min_length=1, max_length=MAX_KEY_LENGTH)] | None = None


class NewRuns(Body):
    """The body of ``POST runs/bulk/``; what is wrong with an item is in its own result."""

    items: Annotated[list[Any], Field(min_length=1, max_length=MOST_ITEMS_OF_BULK)]


class BulkFilter(Body):
    """Which runs are meant: those that fit all that is said."""

    workflow: Names | None = None
    status: Annotated[list[RunStatus], Field(min_length=1)] | RunStatus | None = None
    created_before: Moment | None = None
    ids: Annotated[list[uuid.UUID], Field(min_length=1, max_length=MOST_IDS)] | None = None


class NewBulkOperation(Body):
    """The body of ``POST bulk-operations/``. ``stage`` and ``config`` are of a rerun, ``reason`` of the others."""

    action: BulkKind
    filter: BulkFilter
    reason: Annotated[StrictStr, Field(max_length=2000)] = ""
    stage: Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)] | None = None
    config: dict[str, Any] | None = None


class Cancellation(Body):
    """The body of ``POST runs/{id}/cancel/``."""

    reason: Annotated[StrictStr, Field(max_length=2000)] = ""


class Rerun(Body):
    """The body of ``POST runs/{id}/rerun/``."""

    stage_id: StrictStr
    config: dict[str, Any] | None = None
    only_failed_items: StrictBool = False


class Answer(Body):
    """The body of ``POST runs/{id}/stages/{stage_id}/answer/``. ``data`` is what the declared wait takes."""

    data: Any
    wait: Annotated[StrictStr, Field(max_length=MAX_ID_LENGTH, pattern=r"^[a-z0-9-]+$")] | None = None
    item: Annotated[StrictInt, Field(ge=0, le=MOST_ITEMS)] | None = None


class Pausing(Body):
    """The body of ``POST runs/{id}/pause/`` and ``…/resume/``."""

    reason: Annotated[StrictStr, Field(max_length=2000)] = ""


def read_idempotency_key(header: str | None) -> str | None:
    """Return the key of the header ``Idempotency-Key``: a quoted string, quotes optional; None without a header.

    Raises:
        ParseError: it is empty or too long.
    """
    if header is None:
        return None
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise ParseError(_("Idempotency-Key must have 1 to %(most)d characters.") % {"most": MAX_KEY_LENGTH})
    return key
