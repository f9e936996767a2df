"""``runs/bulk/``: many runs by one request, each for itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bulk import NewRun, create_runs
from workflow_engine.errors import field_errors

from .base import MAX_BODY_BYTES, EngineView
from .bodies import MOST_ITEMS_OF_BULK, NewRuns, OneOfRuns
from .permissions import ADD
from .problems import InvalidBody, document_of
from .runs import check_new_run, of_body, runs
from .serializers import RunSerializer


class RunBulk(EngineView):
    needs = {"post": ADD}
    max_body_bytes = 10 * MAX_BODY_BYTES

    def post(self, request: Request) -> Response:
        """Create runs: ``{"items": [as POST runs/, with "idempotency_key"?]}`` -> ``{"results": [...]}``, in order.

        A result is ``{"status": 201 or 200, "run": {...}}`` or ``{"status", "problem": {...}}``.
        """
        read = [_read(item, request) for item in self.read_body(NewRuns).items]
        wanted = [one for one in read if isinstance(one, NewRun)]
        # In one transaction: when the database goes away, nothing was written.
        created = iter(create_runs(wanted, actor=request.user, chunk_size=MOST_ITEMS_OF_BULK))
        outcomes = [next(created) if isinstance(one, NewRun) else one for one in read]
        rows = _rows(one.run_id for one in outcomes if not isinstance(one, dict))
        results = []
        for outcome in outcomes:
            if isinstance(outcome, dict):
                results.append(_refused(outcome))
            elif outcome.error is not None:
                results.append(_refused(document_of(of_body(outcome.error))))
            else:
                # It may be replayed although somebody has deleted it since.
                row = rows.get(outcome.run_id, {"run_id": outcome.run_id})
                results.append({"status": 201 if outcome.created else 200, "run": row})
        return Response({"results": results})


def _read(item: Any, request: Request) -> NewRun | dict[str, Any]:
    """Return what an item asks for, or its problem document."""
    try:
        body = OneOfRuns.model_validate(item)
        check_new_run(body)
    except ValidationError as error:
        return document_of(InvalidBody(field_errors(error)))
    except InvalidBody as error:
        return document_of(error)
    return NewRun(
        body.workflow_id,
        body.input,
        config=body.config,
        priority=body.priority,
        metadata=body.metadata,
        annotations=body.annotations,
        run_at=body.run_at,
        idempotency_key=body.idempotency_key,
        idempotency_scope=f"user:{request.user.pk}",
    )


def _rows(ids: Iterable[Any]) -> dict[Any, Any]:
    wanted = [run_id for run_id in ids if run_id is not None]
    return {run.pk: RunSerializer(run).data for run in runs().filter(pk__in=wanted)}


def _refused(document: dict[str, Any]) -> dict[str, Any]:
    return {"status": document["status"], "problem": document}
