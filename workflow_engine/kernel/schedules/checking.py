"""What a schedule may say: every field that is wrong is named, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticSerializationError

from workflow_engine.definitions.identifiers import check_id
from workflow_engine.definitions.types import ANYTHING, lost_in_json
from workflow_engine.errors import (
    FieldError,
    InvalidConfig,
    InvalidDefinition,
    InvalidInput,
    InvalidPayload,
    WorkflowNotFound,
    shown,
)
from workflow_engine.kernel.commands.create_run import CreateRun, check
from workflow_engine.kernel.payloads import check_column
from workflow_engine.kernel.ports import Ports, Registry
from workflow_engine.statuses import CatchUp, Overlap

from .cron import calendar_of

CHANGEABLE = ("name", "workflow", "cron", "timezone", "input", "overlap", "catch_up", "enabled", "declared")


def check_schedule(ports: Ports, values: Mapping[str, Any], *, changed: frozenset[str]) -> dict[str, Any]:
    """``check_fields`` with what this process knows."""
    return check_fields(ports.registry, values, changed=changed, most_bytes=ports.limits.inline_payload_bytes)


def check_fields(
    registry: Registry, values: Mapping[str, Any], *, changed: frozenset[str], most_bytes: int
) -> dict[str, Any]:
    """Return all fields of a schedule as they are stored. Raises ``InvalidInput`` with all that is wrong.

    Args:
        values: every field.
        changed: those that are new; what stands for a workflow that this code lacks by now may stay.
        most_bytes: of the input as JSON.
    """
    subject = f"schedule {shown(values['name'], 120)}"
    found, problems = dict(values), []
    try:
        check_id("Schedule", values["name"])
    except InvalidDefinition:
        problems.append(
            FieldError(
                "name",
                f"must be lower-case words of letters and digits joined by '-', got {shown(values['name'], 120)}",
            )
        )
    if changed & {"cron", "timezone"}:
        problems += _of_times(values["cron"], values["timezone"])
    for name, choices in (("overlap", Overlap), ("catch_up", CatchUp)):
        if values[name] not in choices.values:
            problems.append(
                FieldError(name, f"must be one of {', '.join(choices.values)}, got {shown(values[name], 100)}")
            )
    problems += [
        FieldError(name, f"must be true or false, got {shown(values[name], 100)}")
        for name in ("enabled", "declared")
        if not isinstance(values[name], bool)
    ]
    if changed & {"workflow", "input"}:
        try:
            found["input"] = _read_input(values["input"], most_bytes)
            check(CreateRun(workflow_id=values["workflow"], input=found["input"]), registry)
        except WorkflowNotFound as error:
            problems.append(FieldError("workflow", str(error), "unknown"))
        except InvalidInput as error:
            problems += [_under("input", one) for one in error.errors]
        except InvalidConfig as error:
            problems += [_under("workflow", one) for one in error.errors]
    if problems:
        raise InvalidInput(subject, problems)
    return found


def _of_times(cron: Any, timezone: Any) -> list[FieldError]:
    try:
        calendar_of(cron, timezone)
    except InvalidInput as error:
        return list(error.errors)
    except TypeError:
        return [FieldError("cron", f"cron and timezone must be text, got {shown(cron)} and {shown(timezone)}")]
    return []


def _read_input(value: Any, most: int) -> Any:
    """Return the input as JSON, as it was given: defaults are filled in when a run is made. Raises ``InvalidInput``."""
    try:
        if (lost := lost_in_json(ANYTHING.dump_python(value))) is not None:
            raise InvalidPayload(*lost)
        data = ANYTHING.dump_python(value, mode="json")
        check_column(data)
    except InvalidPayload as error:
        raise InvalidInput("a schedule", [FieldError(error.path, error.problem, "not_storable")]) from error
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("a schedule", [FieldError("", f"cannot be written as JSON ({error})"[:300])]) from error
    size = len(json.dumps(data).encode())
    if size > most:
        problem = (
            f"has {size:,} bytes of JSON, at most {most:,} are kept with a schedule (setting INLINE_PAYLOAD_BYTES)"
        )
        raise InvalidInput("a schedule", [FieldError("", problem)])
    return data


def _under(name: str, error: FieldError) -> FieldError:
    return FieldError(f"{name}.{error.path}" if error.path else name, error.message, error.code)
