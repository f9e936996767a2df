"""``dead-letters/``: events that a subscriber has refused for good."""

from __future__ import annotations

import uuid
from typing import Annotated

from pydantic import Field, StrictStr
from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.event_types import EVENT_TYPES
from workflow_engine.kernel.commands import ReplayDeadLetters
from workflow_engine.models import DeadLetter

from .base import EngineView
from .bodies import Body
from .pages import AfterPage, read_choices
from .permissions import REPLAY, VIEW_DEAD_LETTERS
from .runs import check_values
from .serializers import DeadLetterSerializer

MOST_REPLAYED = 1000


class Replay(Body):
    """The body of ``POST dead-letters/replay/``: what is left out stands for any."""

    run_id: uuid.UUID | None = None
    type: StrictStr | None = None
    subscriber: StrictStr | None = None
    ids: Annotated[list[int], Field(min_length=1, max_length=MOST_REPLAYED)] | None = None
    max: Annotated[int, Field(ge=1, le=MOST_REPLAYED)] = 100


class DeadLetterList(EngineView):
    needs = {"get": VIEW_DEAD_LETTERS}

    def get(self, request: Request) -> Response:
        """Return dead letters, oldest first; ``?subscriber=…&type=…&after=<id>&limit=200``."""
        page = AfterPage(request, "id")
        rows = DeadLetter.objects.using(get_setting("DATABASE"))
        if types := read_choices(request, "type", EVENT_TYPES):
            rows = rows.filter(type__in=types)
        if (subscriber := request.query_params.get("subscriber")) is not None:
            rows = rows.filter(subscriber=subscriber) if subscriber.isprintable() else rows.none()
        return page.answer(page.rows_of(rows), lambda shown: DeadLetterSerializer(shown, many=True).data)


class DeadLetterReplay(EngineView):
    needs = {"post": REPLAY}

    def post(self, request: Request) -> Response:
        """Have dead letters delivered again, the oldest first: 202 ``{"replayed"}``, how many those are."""
        body = self.read_body(Replay)
        check_values({"subscriber": body.subscriber, "type": body.type})
        command = ReplayDeadLetters(
            run_id=body.run_id,
            event_type=body.type,
            subscriber=body.subscriber,
            ids=None if body.ids is None else tuple(body.ids),
            max=body.max,
        )
        return Response({"replayed": get_kernel().dispatch(command).replayed}, status=202)
