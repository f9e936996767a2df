"""``ctx.run_child``: a body starts another run, ends its attempt, and finds the result when it runs again."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from workflow_engine.definitions import Workflow
from workflow_engine.definitions.results import ChildRequest, StageSuspended, Suspension
from workflow_engine.errors import (
    ChildFailed,
    ChildTooDeep,
    FieldError,
    InvalidDefinition,
    InvalidInput,
    RunNotFound,
    shown,
)
from workflow_engine.ids import uuid7
from workflow_engine.kernel.idempotency import hash_of
from workflow_engine.kernel.limiting import limit_key_of
from workflow_engine.kernel.outputs import typed_output
from workflow_engine.kernel.payloads import ValueMismatch, check_column, pack, write
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import WorkflowRun
from workflow_engine.statuses import FINISHED_RUN, MemoKind, RunStatus

from .held import Held
from .memory import Memory, check_name
from .patience import patiently

logger = logging.getLogger(__name__)


class ChildRuns:
    """The runs that one attempt's stage has started, and may start."""

    def __init__(self, ports: Ports, held: Held, memory: Memory) -> None:
        self._ports, self._held, self._memory = ports, held, memory
        # What this attempt has asked for, by name.
        self._asked: dict[str, str] = {}

    def run(
        self,
        workflow: Workflow[Any, Any] | str,
        input: Any,
        *,
        name: str | None,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Any:
        """Return the child's output as its type makes it.

        Raises:
            StageSuspended: it is started, or has not ended yet.
            ChildFailed: it failed or was cancelled.
            InvalidInput, InvalidConfig, WorkflowNotFound, ChildTooDeep: nothing was written.
            InvalidDefinition: the name stands for another workflow, or in this attempt for another input.
        """
        definition = self._definition(workflow)
        called = definition.id if name is None else name
        check_name(called, f"a child run of stage {self._held.stage.stage_id!r}")
        data = self._input(definition, input)
        digest = hash_of({"workflow": definition.id, "input": data, "config": config})
        if self._asked.setdefault(called, digest) != digest:
            raise self._confused(called)
        memo = self._memory.get(MemoKind.CHILD, called)
        if memo is None:
            raise StageSuspended(
                Suspension("child", called, child=self._request(definition, called, data, config, metadata, digest))
            )
        known = self._memory.value(memo)
        if known["workflow_id"] != definition.id:
            raise self._confused(called)
        if known["request"] != digest:
            # A deploy has changed the type, or the body makes its input of what changes.
            logger.warning(
                "child run was started with other input run=%s stage=%s child=%s name=%s",
                self._held.stage.run_id,
                self._held.stage.stage_id,
                known["run_id"],
                called,
            )
        return self._result(definition, called, uuid.UUID(known["run_id"]))

    def _confused(self, name: str) -> InvalidDefinition:
        return InvalidDefinition(
            f"Stage {self._held.stage.stage_id!r} has started another child run under the name {name!r}. Give each "
            "child run of a stage a name: ctx.run_child(workflow, input, name='…')."
        )

    def _definition(self, workflow: Any) -> Workflow[Any, Any]:
        if not isinstance(workflow, str | Workflow):
            problem = FieldError("workflow", f"must be a workflow or its id, got {shown(workflow)}"[:200])
            raise InvalidInput(f"ctx.run_child() in stage {self._held.stage.stage_id!r}", [problem])
        # By id: whoever runs it knows it by that.
        return self._ports.registry.get_workflow(workflow if isinstance(workflow, str) else workflow.id)

    def _input(self, definition: Workflow[Any, Any], input: Any) -> Any:
        if definition.input.type is None:
            definition.validate_input(input)
        try:
            return write(definition.input, input)
        except ValueMismatch as error:
            raise InvalidInput(f"workflow {definition.id!r}", error.errors) from error

    def _request(
        self,
        definition: Workflow[Any, Any],
        name: str,
        data: Any,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        digest: str,
    ) -> ChildRequest:
        self._check_depth(definition)
        ports, run_id = self._ports, uuid7()
        merged = definition.validate_config(config)
        facts = dict(metadata or {})
        check_column(merged)
        check_column(facts)
        envelope = pack(
            data, lambda sha: f"runs/{run_id}/input/{sha}.json", ports.blobs, ports.limits, "the child's input"
        )
        # As JSON gives it back, and nothing that the body may still change.
        return ChildRequest(
            run_id=run_id,
            name=name,
            workflow_id=definition.id,
            plan=definition.plan(),
            config=merged,
            input=envelope,
            priority=self._held.stage.priority,
            metadata=json.loads(json.dumps(facts)),
            digest=digest,
            limit_key=limit_key_of(definition, data),
        )

    def _check_depth(self, definition: Workflow[Any, Any]) -> None:
        limit = self._ports.limits.max_child_depth
        runs = WorkflowRun.objects.using(self._ports.using).filter(pk=self._held.stage.run_id)
        depth = patiently(self._ports, self._held, lambda: runs.values_list("depth", flat=True).first()) or 0
        if depth + 1 > limit:
            raise ChildTooDeep(definition.id, depth + 1, limit)

    def _result(self, definition: Workflow[Any, Any], name: str, run_id: uuid.UUID) -> Any:
        runs = WorkflowRun.objects.using(self._ports.using).select_related("data").filter(pk=run_id)
        run = patiently(self._ports, self._held, runs.first)
        if run is None:
            # Somebody has deleted it.
            raise RunNotFound(run_id)
        if run.status not in FINISHED_RUN:
            raise StageSuspended(Suspension("child", name))
        if run.status != RunStatus.COMPLETED:
            raise ChildFailed(definition.id, run.pk, run.status, run.error)
        return patiently(self._ports, self._held, lambda: typed_output(run, definition, self._ports))
