"""``define_workflow``: stages are put into groups, checked and frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, Literal, overload

from typing_extensions import TypeVar

from workflow_engine.errors import InvalidDefinition

from .condition_checks import check_condition
from .context import In, Out
from .identifiers import check_id
from .items import ItemError, ItemMap, OnItemError, item_map
from .limits import Limit
from .stages import Stage
from .types import DataType
from .workflows import AnyStage, Group, Workflow

Out2 = TypeVar("Out2")


@dataclass(frozen=True)
class WorkflowBuilder(Generic[In, Out]):
    """Collects groups; each call gives a new builder, so a built workflow can never change afterwards."""

    id: str
    name: str
    description: str
    version: str
    input: DataType
    groups: tuple[Group, ...] = ()
    timeout: timedelta | None = None
    concurrency: Limit | None = None
    retired_stages: tuple[AnyStage, ...] = ()

    def pipe(self, stage: Stage[Any, Any, Out2]) -> WorkflowBuilder[In, Out2]:
        """Add a stage that starts when the group before it is done and gets that group's output."""
        return self._add((stage,))

    def parallel(self, *stages: AnyStage, fail_fast: bool = False) -> WorkflowBuilder[In, dict[str, Any]]:
        """Add stages that may run at the same time; all get the same input.

        The next group gets their outputs as a mapping: stage id with ``-`` as ``_`` -> output. If one fails for good,
        the others come to their end before the run fails; with ``fail_fast`` they are cancelled.
        """
        if not stages:
            raise InvalidDefinition(f"Workflow {self.id!r}: parallel() needs at least one stage.")
        if not isinstance(fail_fast, bool):
            raise InvalidDefinition(f"Workflow {self.id!r}: fail_fast must be True or False, got {fail_fast!r}.")
        return self._add(stages, fail_fast=fail_fast)

    @overload
    def map(
        self,
        stage: Stage[Any, Any, Out2],
        *,
        over: Callable[[Any], Any] | None = None,
        max_parallel: int | None = None,
        on_item_error: Literal["fail", "skip"] = "fail",
        min_success: int | float | None = None,
    ) -> WorkflowBuilder[In, list[Out2]]: ...
    @overload
    def map(
        self,
        stage: Stage[Any, Any, Out2],
        *,
        over: Callable[[Any], Any] | None = None,
        max_parallel: int | None = None,
        on_item_error: Literal["collect"],
        min_success: int | float | None = None,
    ) -> WorkflowBuilder[In, list[Out2 | ItemError]]: ...
    def map(
        self,
        stage: AnyStage,
        *,
        over: Callable[[Any], Any] | None = None,
        max_parallel: int | None = None,
        on_item_error: OnItemError = "fail",
        min_success: int | float | None = None,
    ) -> WorkflowBuilder[In, Any]:
        """Add a group that runs ``stage`` once for every item of a sequence, each with its own retries, log and result.

        The next group gets the outputs as a list in item order; it may also read them one by one, with
        ``ctx.items(stage)``.

        Args:
            over: makes the list of items (or a tuple) of what this group gets; None: that is the list. It is called
                once per run, by a worker, and retried by the stage's policy.
            max_parallel: items under way at the same time; None: the setting ``MAX_PARALLEL``.
            on_item_error: what it means that an item has failed for good. ``"fail"``: the stage fails and no further
                item starts; ``"collect"``: an ``ItemError`` stands for it in the results; ``"skip"``: it is left out.
            min_success: with the last two the stage fails if fewer items succeed: a count, or a share up to 1.0.
        """
        mapped = item_map(f"Workflow {self.id!r}: map()", over, max_parallel, on_item_error, min_success)
        return self._add((stage,), mapped=mapped)

    def retired(self, *stages: AnyStage) -> WorkflowBuilder[In, Out]:
        """Keep stages that are no longer in the plan executable, for runs that were created when they were."""
        planned = {stage.id for group in self.groups for stage in group.stages}
        for stage in stages:
            if not isinstance(stage, Stage):
                raise InvalidDefinition(f"Workflow {self.id!r}: {stage!r} is not a stage.")
            if stage.id in planned or stage.id in {one.id for one in self.retired_stages}:
                raise InvalidDefinition(f"Workflow {self.id!r}: stage {stage.id!r} is there twice.")
        return replace(self, retired_stages=(*self.retired_stages, *stages))

    def build(self) -> Workflow[In, Out]:
        """Return the frozen workflow. Raises ``InvalidDefinition`` if it has no stages."""
        if not self.groups:
            raise InvalidDefinition(f"Workflow {self.id!r} has no stages. Add one with .pipe(stage).")
        return Workflow(
            id=self.id,
            name=self.name,
            description=self.description,
            version=self.version,
            input=self.input,
            groups=self.groups,
            timeout=self.timeout,
            concurrency=self.concurrency,
            retired=self.retired_stages,
        )

    def _add(
        self, stages: tuple[AnyStage, ...], *, fail_fast: bool = False, mapped: ItemMap | None = None
    ) -> WorkflowBuilder[In, Any]:
        earlier = [stage.id for group in self.groups for stage in group.stages]
        siblings: dict[str, str] = {}
        for stage in stages:
            self._check(stage, earlier, siblings, [item.id for item in stages if isinstance(item, Stage)])
            siblings[stage.key] = stage.id
        retired = {stage.id for stage in self.retired_stages}
        if again := [stage.id for stage in stages if stage.id in retired]:
            raise InvalidDefinition(f"Workflow {self.id!r}: stage {again[0]!r} is retired and in the plan.")
        group = Group(number=len(self.groups) + 1, stages=tuple(stages), fail_fast=fail_fast, map=mapped)
        return replace(self, groups=(*self.groups, group))

    def _check(self, stage: Any, earlier: list[str], siblings: dict[str, str], group: list[str]) -> None:
        where = f"Workflow {self.id!r}"
        if not isinstance(stage, Stage):
            raise InvalidDefinition(f"{where}: {stage!r} is not a stage. Decorate the function with @stage('its-id').")
        if stage.id in earlier or stage.key in siblings:
            raise InvalidDefinition(f"{where}: stage {stage.id!r} is there twice. Ids are unique in a workflow.")
        missing = [item for item in stage.dependencies if item not in earlier]
        if missing:
            hint = " (in the same group)" if set(missing) & set(group) else ""
            raise InvalidDefinition(
                f"{where}: stage {stage.id!r} depends on {', '.join(map(repr, missing))}, which no earlier group "
                f"has{hint}. Earlier stages: {', '.join(map(repr, earlier)) or 'none'}."
            )
        check_condition(where, stage, {one.id: one for before in self.groups for one in before.stages})


@overload
def define_workflow(
    id: str,
    *,
    name: str = "",
    description: str = "",
    input: None = None,
    version: str = "1",
    timeout: timedelta | None = None,
    concurrency: Limit | None = None,
) -> WorkflowBuilder[None, None]: ...
@overload
def define_workflow(
    id: str,
    *,
    name: str = "",
    description: str = "",
    input: type[In],
    version: str = "1",
    timeout: timedelta | None = None,
    concurrency: Limit | None = None,
) -> WorkflowBuilder[In, None]: ...
@overload
def define_workflow(
    id: str,
    *,
    name: str = "",
    description: str = "",
    input: Any,
    version: str = "1",
    timeout: timedelta | None = None,
    concurrency: Limit | None = None,
) -> WorkflowBuilder[Any, None]: ...
def define_workflow(
    id: str,
    *,
    name: str = "",
    description: str = "",
    input: Any = None,
    version: str = "1",
    timeout: timedelta | None = None,
    concurrency: Limit | None = None,
) -> WorkflowBuilder[Any, Any]:
    """Start the definition of a workflow.

    Args:
        id: lower-case words of letters and digits, joined by ``-``.
        input: the type of a run's input, anything that survives JSON through pydantic; None: it takes none.
        version: yours to count; stored with each run.
        timeout: how long a run may take from its start; then it fails (code ``RUN_TIMEOUT``).
        concurrency: how many runs may be under way at the same time, in all or by a key of their input.

    Raises:
        InvalidDefinition: an argument is wrong; the text names it and the fix.
    """
    check_id("Workflow", id)
    if not isinstance(version, str) or not version or len(version) > 50:
        raise InvalidDefinition(f"Workflow {id!r}: version must be a string of 1 to 50 characters, got {version!r}.")
    if timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0)):
        raise InvalidDefinition(f"Workflow {id!r}: timeout must be a timedelta above 0, got {timeout!r}.")
    if concurrency is not None and not isinstance(concurrency, Limit):
        raise InvalidDefinition(
            f"Workflow {id!r}: concurrency must be Limit(most, key=…), got {concurrency!r}. "
            f"For a plain number: concurrency=Limit(10)."
        )
    data = DataType(None if input is type(None) else input, f"Workflow {id!r} (input)")
    if data.type is not None:
        _ = data.adapter
    return WorkflowBuilder(
        id=id,
        name=name or id.replace("-", " ").capitalize(),
        description=description,
        version=version,
        input=data,
        timeout=timeout,
        concurrency=concurrency,
    )
