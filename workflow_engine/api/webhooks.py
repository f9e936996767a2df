"""``webhooks/``: addresses that hear of events, their secrets, a test, and the log of requests to them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Annotated, Any

from django.db import transaction
from pydantic import Field, StrictBool, StrictStr
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.errors import WebhookNotFound
from workflow_engine.kernel.commands import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    RotateWebhook,
    TryWebhook,
)
from workflow_engine.models import WebhookDelivery, WebhookEndpoint
from workflow_engine.models.webhooks import MOST_REASON
from workflow_engine.running import actor_name

from .base import EngineView
from .bodies import Body
from .pages import LARGEST_ID, RunPages, read_number
from .permissions import (
    ADD_WEBHOOKS,
    CHANGE_WEBHOOKS,
    DELETE_WEBHOOKS,
    VIEW_WEBHOOK_DELIVERIES,
    VIEW_WEBHOOKS,
)
from .serializers import WebhookDeliverySerializer, WebhookSerializer

LONGEST_OVERLAP_SECONDS = 30 * 24 * 3600
DAY_SECONDS = 24 * 3600
Texts = list[StrictStr]


class NewWebhook(Body):
    """The body of ``POST webhooks/``. What may stand in the fields is for the command to say."""

    url: StrictStr
    description: StrictStr = ""
    events: Texts = []
    workflows: Texts = []
    active: StrictBool = True


class WebhookChange(Body):
    """The body of ``PATCH webhooks/{id}/``: what is left out stays. ``reason`` is of ``"active": false``."""

    url: StrictStr | None = None
    description: StrictStr | None = None
    events: Texts | None = None
    workflows: Texts | None = None
    active: StrictBool | None = None
    reason: Annotated[StrictStr, Field(max_length=MOST_REASON)] = ""


class Rotation(Body):
    """The body of ``POST webhooks/{id}/rotate/``: for how long the old secret signs too."""

    overlap_seconds: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_SECONDS)] = DAY_SECONDS


class WebhookList(EngineView):
    needs = {"get": VIEW_WEBHOOKS, "post": ADD_WEBHOOKS}

    def get(self, request: Request) -> Response:
        """Return a page of webhooks, newest first; ``?limit=50``."""
        pages = RunPages()
        found: Any = pages.paginate_queryset(_endpoints(), request, view=self)
        return pages.get_paginated_response(WebhookSerializer(found, many=True).data)

    def post(self, request: Request) -> Response:
        """Make a webhook: 201 with its ``Location``, and its ``secret``, which is never shown again."""
        body = self.read_body(NewWebhook)
        command = CreateWebhook(
            url=body.url,
            description=body.description,
            events=tuple(body.events),
            workflows=tuple(body.workflows),
            active=body.active,
            actor=actor_name(request.user),
        )
        made = get_kernel().dispatch(command)
        shown = {**WebhookSerializer(find_endpoint(made.endpoint_id)).data, "secret": made.secret}
        location = self.address("webhook", endpoint_id=made.endpoint_id)
        return Response(shown, status=201, headers={"Location": location})


class WebhookDetail(EngineView):
    needs = {"get": VIEW_WEBHOOKS, "patch": CHANGE_WEBHOOKS, "delete": DELETE_WEBHOOKS}
    http_method_names = ("get", "head", "patch", "delete")

    def get(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Return a webhook."""
        return Response(WebhookSerializer(find_endpoint(endpoint_id)).data)

    def patch(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Change what is given, and switch it on or off by ``active``; all of it, or nothing."""
        body, kernel = self.read_body(WebhookChange), get_kernel()
        change = ChangeWebhook(
            endpoint_id=endpoint_id,
            url=body.url,
            description=body.description,
            events=None if body.events is None else tuple(body.events),
            workflows=None if body.workflows is None else tuple(body.workflows),
        )
        with transaction.atomic(using=kernel.ports.using):
            kernel.dispatch(change)
            if body.active is True:
                kernel.dispatch(EnableWebhook(endpoint_id=endpoint_id))
            elif body.active is False:
                reason = body.reason or f"by {actor_name(request.user)}"
                kernel.dispatch(DisableWebhook(endpoint_id=endpoint_id, reason=reason))
        return Response(WebhookSerializer(find_endpoint(endpoint_id)).data)

    def delete(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Delete a webhook with its log and its dead letters: 204."""
        get_kernel().dispatch(DeleteWebhook(endpoint_id=endpoint_id))
        return Response(status=204)


class WebhookTest(EngineView):
    needs = {"post": CHANGE_WEBHOOKS}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Send an event of the type ``webhook.test`` now: 200 with what came of it, whatever that is."""
        self.read_body(Body)
        made = get_kernel().dispatch(TryWebhook(endpoint_id=endpoint_id))
        return Response(
            {
                "delivered": made.delivered,
                "status": made.status,
                "duration_ms": made.duration_ms,
                "error": made.error,
                "response": made.response,
            }
        )


class WebhookRotate(EngineView):
    needs = {"post": CHANGE_WEBHOOKS}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Make a new secret: the webhook with its ``secret``, which is never shown again."""
        overlap = timedelta(seconds=self.read_body(Rotation).overlap_seconds)
        made = get_kernel().dispatch(RotateWebhook(endpoint_id=endpoint_id, overlap=overlap))
        return Response({**WebhookSerializer(find_endpoint(endpoint_id)).data, "secret": made.secret})


class WebhookDeliveries(EngineView):
    needs = {"get": VIEW_WEBHOOK_DELIVERIES}

    def get(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Return the requests to a webhook, newest first: ``?before=<id>&limit=50``."""
        before = read_number(request, "before", default=LARGEST_ID, least=1, most=LARGEST_ID)
        limit = read_number(request, "limit", default=50, least=1, most=200)
        rows = WebhookDelivery.objects.using(get_setting("DATABASE")).filter(endpoint=find_endpoint(endpoint_id))
        found = list(rows.filter(pk__lt=before).order_by("-pk")[: limit + 1])
        shown = found[:limit]
        following = replace_query_param(request.build_absolute_uri(), "before", str(shown[-1].pk)) if shown else None
        return Response(
            {
                "next": following if len(found) > len(shown) else None,
                "results": WebhookDeliverySerializer(shown, many=True).data,
            }
        )


def _endpoints() -> Any:
    return WebhookEndpoint.objects.using(get_setting("DATABASE"))


def find_endpoint(endpoint_id: uuid.UUID) -> WebhookEndpoint:
    """Return the webhook. Raises ``WebhookNotFound``."""
    found: WebhookEndpoint | None = _endpoints().filter(pk=endpoint_id).first()
    if found is None:
        raise WebhookNotFound(endpoint_id)
    return found
