"""What all views have in common, set on the class: the project's ``REST_FRAMEWORK`` setting changes none of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse
from pydantic import ValidationError
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from workflow_engine.errors import FieldError, field_errors

from .bodies import Body, BoundedJSONParser
from .permissions import EnginePermission
from .problems import InvalidBody, handle

B = TypeVar("B", bound=Body)
MAX_BODY_BYTES = 1024 * 1024


class EngineRenderer(JSONRenderer):
    """Writes plain ASCII JSON, so that half of a surrogate pair that somebody sent cannot break an answer."""

    compact, ensure_ascii, strict = True, True, True


class OnlyJSON(DefaultContentNegotiation):
    """Answers in JSON whatever is accepted: there is nothing else, and an error should be readable."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class EngineView(APIView):
    """A view of the engine. ``needs`` names the permission per method (lower case); methods without are closed."""

    needs: ClassVar[Mapping[str, str]] = {}
    # Of a request's body; larger ones answer 413. Subclass the view to change it.
    max_body_bytes = MAX_BODY_BYTES
    http_method_names: Sequence[str] = ("get", "head", "post")
    permission_classes = (EnginePermission,)
    parser_classes = (BoundedJSONParser,)
    renderer_classes = (EngineRenderer,)
    content_negotiation_class = OnlyJSON
    # Who may call is known; how often is for the proxy in front.
    throttle_classes = ()
    versioning_class = None
    metadata_class = None

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return session authentication (with CSRF), and tokens if ``rest_framework.authtoken`` is installed."""
        found: list[BaseAuthentication] = []
        if apps.is_installed("rest_framework.authtoken"):
            from rest_framework.authentication import TokenAuthentication

            found.append(TokenAuthentication())
        return [*found, SessionAuthentication()]

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return handle

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        # Django decodes the query by the charset that is said of the body.
        request.encoding = "utf-8"
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "private, no-store"
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def read_body(self, model: type[B]) -> B:
        """Return the request's body as ``model``. Raises ``InvalidBody``."""
        try:
            return model.model_validate(self.request.data)
        except ValidationError as error:
            raise InvalidBody([_of_json(item) for item in field_errors(error)]) from error

    def address(self, name: str, **arguments: Any) -> str:
        """Return the absolute address of another endpoint, in whatever namespace this one is."""
        match = self.request.resolver_match
        names = [*(match.namespaces if match else ()), name]
        return str(self.request.build_absolute_uri(reverse(":".join(names), kwargs=arguments)))


def _of_json(error: FieldError) -> FieldError:
    """Leave the names of Python's types out of what is said of the body as a whole."""
    return replace(error, message="Input should be an object") if error.code in ("model_type", "dict_type") else error
