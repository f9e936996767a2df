"""What may stand in a webhook: everything that is wrong is found at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_engine.definitions.plugins import matching
from workflow_engine.definitions.stages import MAX_ID_LENGTH
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput
from workflow_engine.kernel.payloads import scrub
from workflow_engine.models.webhooks import MOST_DESCRIPTION

from .targets import BadTarget, TargetRules, target_of

MOST_FILTERS = 100


def check_fields(rules: TargetRules, fields: Mapping[str, Any], *, new: bool = False) -> None:
    """Raise ``InvalidInput`` listing what is wrong with ``url``, ``description``, ``events``, ``workflows``.

    A field that is None is not looked at, unless the webhook is new.
    """
    checks = {"url": _url, "description": _description, "events": _events, "workflows": _workflows}
    problems = [
        FieldError(name, problem)
        for name, value in fields.items()
        if (new or value is not None) and (problem := checks[name](value, rules))
    ]
    if problems:
        raise InvalidInput("a webhook", problems)


def _url(value: Any, rules: TargetRules) -> str | None:
    if not isinstance(value, str):
        return f"must be text, got {type(value).__name__}"
    try:
        target_of(value, rules)
    except BadTarget as error:
        return str(error)
    return None


def _description(value: Any, rules: TargetRules) -> str | None:
    if not isinstance(value, str) or len(value) > MOST_DESCRIPTION or scrub(value) != value:
        return f"must be text of up to {MOST_DESCRIPTION} characters"
    return None


def _events(value: Any, rules: TargetRules) -> str | None:
    if problem := _names(value, "types of events, such as run.completed or run.*"):
        return problem
    try:
        if value:
            matching(value, "events")
    except InvalidDefinition as error:
        return str(error).removeprefix("events: on=")
    return None


def _workflows(value: Any, rules: TargetRules) -> str | None:
    return _names(value, "ids of workflows")


def _names(value: Any, what: str) -> str | None:
    listed = isinstance(value, list | tuple) and len(value) <= MOST_FILTERS
    if not listed or not all(isinstance(item, str) and 0 < len(item) <= MAX_ID_LENGTH for item in value):
        return f"must be a list of up to {MOST_FILTERS} {what}"
    return None if all(scrub(item) == item for item in value) else f"must be {what}"
