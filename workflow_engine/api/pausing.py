"""``runs/{id}/pause/`` and ``runs/{id}/resume/``: ``{"reason"?}`` -> ``{"changed", "status"}``."""

from __future__ import annotations

import uuid
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import PauseRun, ResumeRun
from workflow_engine.running import actor_name

from .base import EngineView
from .bodies import Pausing
from .permissions import PAUSE
from .runs import check_values


class RunPause(EngineView):
    needs = {"post": PAUSE}

    def post(self, request: Request, run_id: uuid.UUID) -> Response:
        """Pause a run; ``changed`` is false if it was paused, or has ended."""
        result = get_kernel().dispatch(PauseRun(run_id=run_id, **_said(self, request)))
        return Response({"changed": result.changed, "status": result.status})


class RunResume(EngineView):
    needs = {"post": PAUSE}

    def post(self, request: Request, run_id: uuid.UUID) -> Response:
        """Let a paused run go on; ``changed`` is false if it was not paused, or has ended."""
        result = get_kernel().dispatch(ResumeRun(run_id=run_id, **_said(self, request)))
        return Response({"changed": result.changed, "status": result.status})


def _said(view: EngineView, request: Request) -> dict[str, Any]:
    """Return who asks and why."""
    reason = view.read_body(Pausing).reason
    check_values({"reason": reason})
    return {"reason": reason, "actor": actor_name(request.user)}
