from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.errors import InvalidInput, RunNotFound
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Annotate
from workflow_engine.models import OutboxEvent, WorkflowAnnotation


def test_facts_are_stored_once_per_idempotency_key_also_after_the_end(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    cancel_run(run)
    command = Annotate(
        run_id=run.pk, values={"approval.by": "anna", "none": None}, idempotency_key="k", emit_event=True
    )

    assert [kernel.dispatch(command).stored for _ in range(2)] == [1, 0]

    assert WorkflowAnnotation.objects.get().value == "anna"
    events = OutboxEvent.objects.order_by("sequence").values_list("type", flat=True)
    assert list(events) == ["run.created", "run.cancelled", "annotation.created"]


def test_facts_without_a_key_are_all_kept(known: Any, kernel: Kernel) -> None:
    run = create_run(known(chain(1)), {"value": 1})

    for _ in range(2):
        kernel.dispatch(Annotate(run_id=run.pk, values={"seen": 1}))

    assert WorkflowAnnotation.objects.count() == 2


@pytest.mark.parametrize("values", [{"": 1}, {"k" * 201: 1}, {"k": float("nan")}, {"k": "\x00"}, {"k\x00": 1}])
def test_a_bad_fact_is_refused(known: Any, kernel: Kernel, values: dict[str, Any]) -> None:
    run = create_run(known(chain(1)), {"value": 1})

    with pytest.raises(InvalidInput):
        kernel.dispatch(Annotate(run_id=run.pk, values=values))

    assert not WorkflowAnnotation.objects.exists()


def test_a_missing_run_is_a_typed_error(kernel: Kernel) -> None:
    with pytest.raises(RunNotFound):
        kernel.dispatch(Annotate(run_id=uuid.uuid4(), values={"a": 1}))
