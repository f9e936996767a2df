"""``runs/{id}/stages/{stage_id}/answer/``: give a waiting stage its answer."""

from __future__ import annotations

import uuid

from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import InvalidInput
from workflow_engine.kernel.commands import AnswerStage
from workflow_engine.running import actor_name

from .base import EngineView
from .bodies import Answer, read_idempotency_key
from .permissions import ANSWER
from .problems import InvalidBody
from .runs import check_values, under


class StageAnswer(EngineView):
    needs = {"post": ANSWER}

    def post(self, request: Request, run_id: uuid.UUID, stage_id: str) -> Response:
        """Answer a stage: ``{"data", "wait"?, "item"?}`` -> ``{"answered", "wait"}``; 409 if it does not wait for it.

        ``answered`` is false if the ``Idempotency-Key`` did it before.
        """
        key = read_idempotency_key(request.headers.get("Idempotency-Key"))
        body = self.read_body(Answer)
        check_values({"data": body.data})
        command = AnswerStage(
            run_id=run_id,
            stage_id=stage_id,
            data=body.data,
            wait=body.wait,
            item=body.item,
            actor=actor_name(request.user),
            idempotency_key=key,
            idempotency_scope=f"user:{request.user.pk}",
        )
        try:
            result = get_kernel().dispatch(command)
        except InvalidInput as error:
            raise InvalidBody([under("data", item) for item in error.errors], code=error.code) from error
        headers = {} if result.answered else {"Idempotency-Replayed": "true"}
        return Response({"answered": result.answered, "wait": result.wait}, headers=headers)
