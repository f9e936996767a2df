"""``runs/{id}/rerun/``: a run that has ended goes on from a stage, or is asked what that would do."""

from __future__ import annotations

import uuid

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import FieldError, InvalidConfig, StageNotFound
from workflow_engine.kernel.commands import RerunFrom
from workflow_engine.kernel.reruns import preview
from workflow_engine.running import actor_name

from .base import EngineView
from .bodies import Rerun, read_idempotency_key
from .permissions import RERUN
from .problems import InvalidBody
from .runs import check_values, find_run, under
from .serializers import RunSerializer


class RunRerun(EngineView):
    needs = {"post": RERUN}

    def post(self, request: Request, run_id: uuid.UUID) -> Response:
        """Rerun: ``{"stage_id", "config"?, "only_failed_items"?}`` -> the run and ``superseded``.

        ``?preview=true`` changes nothing: it tells what would run again.
        """
        body, key = self.read_body(Rerun), read_idempotency_key(request.headers.get("Idempotency-Key"))
        check_values({"stage_id": body.stage_id, "config": body.config})
        try:
            if _is_preview(request):
                failed = body.only_failed_items
                plan = preview(get_kernel().ports, run_id, body.stage_id, body.config, only_failed_items=failed)
                return Response(plan.as_json())
            return self._rerun(request, run_id, body, key)
        except StageNotFound as error:
            problem = FieldError("stage_id", "the plan of the run has no stage of this id", "unknown")
            raise InvalidBody([problem], code=error.code) from error
        except InvalidConfig as error:
            raise InvalidBody([under("config", item) for item in error.errors], code=error.code) from error

    def _rerun(self, request: Request, run_id: uuid.UUID, body: Rerun, key: str | None) -> Response:
        command = RerunFrom(
            run_id=run_id,
            stage_id=body.stage_id,
            config=body.config,
            only_failed_items=body.only_failed_items,
            actor=actor_name(request.user),
            idempotency_key=key,
            idempotency_scope=f"user:{request.user.pk}",
        )
        result = get_kernel().dispatch(command)
        headers = {"Idempotency-Replayed": "true"} if result.replayed else {}
        answer = {**RunSerializer(find_run(run_id)).data, "superseded": list(result.superseded)}
        return Response(answer, headers=headers)


def _is_preview(request: Request) -> bool:
    """Return what ``?preview=`` says. What it might have meant is refused: a rerun cannot be taken back."""
    given = request.query_params.get("preview", "false").lower()
    if given not in ("true", "false"):
        raise ParseError(_("preview must be true or false."))
    return given == "true"
