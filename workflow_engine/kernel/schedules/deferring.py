"""What can be put off: the commands, their fields as JSON, and how each is done in the transaction that fires it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from workflow_engine.definitions.types import ANYTHING, lost_in_json
from workflow_engine.errors import (
    FieldError,
    InvalidInput,
    RunNotFound,
    StageNotFound,
    WorkflowNotFound,
    field_errors,
    shown,
)
from workflow_engine.kernel.commands.base import Command
from workflow_engine.kernel.commands.cancel_run import CancelRun, cancel_in
from workflow_engine.kernel.commands.create_run import CreateRun, check, insert, prepare
from workflow_engine.kernel.commands.pause_run import PauseRun, pause_in
from workflow_engine.kernel.commands.pause_work import PauseWork, check_target, pause_work_in
from workflow_engine.kernel.commands.rerun_from import RerunFrom, rerun_with
from workflow_engine.kernel.commands.resume_run import ResumeRun, resume_in
from workflow_engine.kernel.commands.resume_work import ResumeWork, resume_work_in
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.reruns import read_run
from workflow_engine.kernel.unit_of_work import UnitOfWork
from workflow_engine.models import WorkflowRun
from workflow_engine.models.runs import DEFAULT_PRIORITY
from workflow_engine.statuses import PauseScope

# What it has come to, as it is stored.
Result = dict[str, Any]
# Lets the step of a transaction be run, once all that is the user's code is done.
Runner = Callable[[Callable[[UnitOfWork], Result]], Any]
_Reason = (Annotated[StrictStr, Field(max_length=2000)], "")
_Text = (Annotated[StrictStr, Field(min_length=1, max_length=100)], ...)
_Mapping = dict[StrictStr, Any]


@dataclass(frozen=True, slots=True)
class Deferrable:
    """A command that can be put off. ``fields``: as ``pydantic.create_model`` takes them.

    ``check`` looks at it when it is put off; ``fire`` prepares it and gives the runner its step.
    """

    command: type[Command[Any]]
    fields: Mapping[str, Any]
    check: Callable[[Any, Ports], None]
    fire: Callable[[Any, Ports, Runner], Any]

    def read(self, payload: Any, actor: str) -> Command[Any]:
        """Return the command that a payload stands for. Raises ``InvalidInput`` with every field that is wrong."""
        try:
            found = _model_of(self.command.type).model_validate(payload)
        except ValidationError as error:
            raise InvalidInput(f"a scheduled {self.command.type}", field_errors(error)) from error
        return self.command(actor=actor, **{field: getattr(found, field) for field in self.fields})  # type: ignore[call-arg]


def deferrable(name: str) -> Deferrable:
    """Return what can be put off under a wire name. Raises ``InvalidInput``."""
    try:
        return DEFERRABLE[name]
    except (KeyError, TypeError):
        problem = FieldError("command", f"must be one of {', '.join(DEFERRABLE)}, got {shown(name)}")
        raise InvalidInput("a scheduled command", [problem]) from None


@cache
def _model_of(name: str) -> type[BaseModel]:
    model: type[BaseModel] = create_model(
        f"payload of {name}", __config__=ConfigDict(extra="forbid"), **DEFERRABLE[name].fields
    )
    return model


def payload_of(command: Command[Any]) -> dict[str, Any]:
    """Return the fields of a command as JSON; who does it is kept beside. Raises ``InvalidInput``.

    The keys of a command (``idempotency_key``) and its own time are refused: the correlation id and ``run_at`` of the
    scheduled command take their place.
    """
    kind = deferrable(getattr(command, "type", ""))
    payload, problems = {}, []
    for field in fields(command):
        value = getattr(command, field.name)
        if field.name in kind.fields:
            payload[field.name] = _as_json(field.name, value)
        elif field.name != "actor" and value not in (None, ""):
            problems.append(FieldError(field.name, "cannot be put off; leave it out", "not_deferrable"))
    if problems:
        raise InvalidInput(f"a scheduled {command.type}", problems)
    return payload


def _as_json(name: str, value: Any) -> Any:
    try:
        if name == "annotations" and isinstance(value, Mapping):
            value = {str(key): inner for key, inner in value.items()}
        if name != "input":
            return to_jsonable_python(value)
        if (lost := lost_in_json(ANYTHING.dump_python(value))) is not None:
            path, problem = lost
            field = FieldError(f"{name}.{path}" if path else name, problem, "not_storable")
            raise InvalidInput("a scheduled command", [field])
        return ANYTHING.dump_python(value, mode="json")
    except InvalidInput:
        raise
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("a scheduled command", [FieldError(name, f"is not JSON ({error})"[:300])]) from error


def _check_new_run(command: CreateRun, ports: Ports) -> None:
    check(command, ports.registry)


def _check_run(command: Any, ports: Ports) -> None:
    if not WorkflowRun.objects.using(ports.using).filter(pk=command.run_id).exists():
        raise RunNotFound(command.run_id)


def _check_rerun(command: RerunFrom, ports: Ports) -> None:
    run = read_run(ports, command.run_id)
    planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
    if command.stage_id not in planned:
        raise StageNotFound(run.workflow, command.stage_id, planned)


def _check_work(command: PauseWork | ResumeWork, ports: Ports) -> None:
    check_target(command.scope, command.name)
    if command.scope == PauseScope.WORKFLOW and command.name not in ports.known_workflows():
        raise WorkflowNotFound(command.name, ports.known_workflows())


def _create(command: CreateRun, ports: Ports, run: Runner) -> Any:
    command, prepared = prepare(command, ports)

    def step(work: UnitOfWork) -> Result:
        insert(work, command, prepared, ports.read_time())
        return {"run_id": str(prepared.run_id)}

    return run(step)


def _cancel(command: CancelRun, ports: Ports, run: Runner) -> Any:
    return run(lambda work: {"cancelled": _found(cancel_in(work, command, work.causation_id), command).cancelled})


def _pause(command: PauseRun, ports: Ports, run: Runner) -> Any:
    return run(lambda work: {"changed": _found(pause_in(work, command), command).changed})


def _resume(command: ResumeRun, ports: Ports, run: Runner) -> Any:
    return run(lambda work: {"changed": _found(resume_in(work, command), command).changed})


def _found(result: Any, command: Any) -> Any:
    if result is None:
        raise RunNotFound(command.run_id)
    return result


def _rerun(command: RerunFrom, ports: Ports, run: Runner) -> Any:
    def once(step: Callable[[UnitOfWork], Any]) -> Any:
        return run(lambda work: {"generation": step(work).generation})

    return rerun_with(command, ports, once)


def _pause_work(command: PauseWork, ports: Ports, run: Runner) -> Any:
    _check_work(command, ports)
    return run(lambda work: {"changed": pause_work_in(work, command)})


def _resume_work(command: ResumeWork, ports: Ports, run: Runner) -> Any:
    return run(lambda work: {"changed": resume_work_in(work, command)})


_OF_RUN = {"run_id": (uuid.UUID, ...), "reason": _Reason}
_OF_WORK = {"scope": _Text, "name": _Text, "reason": _Reason}
_NEW_RUN: dict[str, Any] = {
    "workflow_id": _Text,
    "input": (Any, None),
    "config": (_Mapping | None, None),
    "priority": (StrictInt, DEFAULT_PRIORITY),
    "metadata": (_Mapping, {}),
    "annotations": (_Mapping, {}),
    "subject": (tuple[StrictInt, StrictStr] | None, None),
}
_RERUN = {
    "run_id": (uuid.UUID, ...),
    "stage_id": _Text,
    "config": (_Mapping | None, None),
    "only_failed_items": (StrictBool, False),
}
DEFERRABLE: dict[str, Deferrable] = {
    one.command.type: one
    for one in (
        Deferrable(CreateRun, _NEW_RUN, _check_new_run, _create),
        Deferrable(CancelRun, _OF_RUN, _check_run, _cancel),
        Deferrable(RerunFrom, _RERUN, _check_rerun, _rerun),
        Deferrable(PauseRun, _OF_RUN, _check_run, _pause),
        Deferrable(ResumeRun, _OF_RUN, _check_run, _resume),
        Deferrable(PauseWork, _OF_WORK, _check_work, _pause_work),
        Deferrable(ResumeWork, _OF_WORK, _check_work, _resume_work),
    )
}
