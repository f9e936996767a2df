from __future__ import annotations

import uuid
from typing import Any, cast

import pytest
from pydantic import BaseModel

from tests.workflows import chain
from workflow_engine import (
    AnnotationKey,
    Approval,
    Decision,
    Revision,
    StageContext,
    Trigger,
    annotate_run,
    cancel_run,
    create_run,
    define_workflow,
    stage,
)
from workflow_engine.errors import InvalidInput, RunNotFound
from workflow_engine.hosts.inline import InlineHost
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


def test_typed_keys_stand_for_their_names(known: Any, kernel: Kernel, host: InlineHost) -> None:
    @stage("decides")
    def decides(ctx: StageContext[None]) -> None:
        ctx.annotate(Decision.OUTCOME, "approved")
        ctx.annotate_many({Decision.ALTERNATIVES: ["wait"], "my.key": 1, Decision.RATIONALE: None})

    known(define_workflow("w").pipe(decides).build())
    run = create_run("w", annotations={Trigger.SOURCE: "webhook", "my.key": 0, Trigger.REASON: None})
    host.drain()
    stored = annotate_run(run, {Approval.APPROVERS: ["anna"], Revision.REASON: None}, actor="bob")

    assert stored == 1
    assert list(WorkflowAnnotation.objects.order_by("id").values_list("key", "value", "actor")) == [
        ("trigger.source", "webhook", ""),
        ("my.key", 0, ""),
        ("decision.outcome", "approved", ""),
        ("decision.alternatives", ["wait"], ""),
        ("my.key", 1, ""),
        ("approval.approvers", ["anna"], "bob"),
    ]


def test_a_project_may_have_keys_of_its_own(known: Any, kernel: Kernel) -> None:
    class Address(BaseModel):
        city: str

    shipped_to = AnnotationKey[Address]("shop.shipped_to", Address)
    run = create_run(known(chain(1)), {"value": 1}, annotations={shipped_to: Address(city="Ulm")})

    assert WorkflowAnnotation.objects.get(run=run).value == {"city": "Ulm"}
    with pytest.raises(InvalidInput) as caught:
        annotate_run(run, {shipped_to: {"city": 3}, Decision.CONFIDENCE: "high"})
    assert [error.path for error in caught.value.errors] == ["shop.shipped_to.city", "decision.confidence"]


def test_every_wrong_value_of_a_typed_key_is_named_with_its_path(known: Any, kernel: Kernel) -> None:
    known(chain(1))
    wrong = {Trigger.SOURCE: 3, Decision.ALTERNATIVES: ["a", 4]}

    with pytest.raises(InvalidInput) as caught:
        create_run("chain", {"value": 1}, annotations=wrong, priority=11)

    paths = [error.path for error in caught.value.errors]
    assert paths == ["annotations.trigger.source", "annotations.decision.alternatives.1", "priority"]
    assert not WorkflowAnnotation.objects.exists()


def test_a_typed_key_and_its_name_are_the_same_content_to_an_idempotency_key(known: Any, kernel: Kernel) -> None:
    known(chain(1))
    options: dict[str, Any] = {"idempotency_key": "k"}

    first = create_run("chain", {"value": 1}, annotations={Trigger.SOURCE: "webhook"}, **options)
    again = create_run("chain", {"value": 1}, annotations={"trigger.source": "webhook"}, **options)

    assert (again.pk, again.was_created) == (first.pk, False)


def test_a_wrong_value_in_a_body_fails_the_stage_at_once(known: Any, kernel: Kernel, host: InlineHost) -> None:
    @stage("decides")
    def decides(ctx: StageContext[None]) -> None:
        ctx.annotate(Decision.CONFIDENCE, cast(Any, "high"))

    run = create_run(known(define_workflow("w").pipe(decides).build()))
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("FAILED", "INVALID_INPUT")
    assert "decision.confidence: " in run.error["message"]


@pytest.mark.parametrize("values", [{"": 1}, {"k" * 201: 1}, {"k": float("nan")}, {"k": "\x00"}, {"k\x00": 1}])
def test_a_bad_fact_is_refused(known: Any, kernel: Kernel, values: dict[str, Any]) -> None:
    run = create_run(known(chain(1)), {"value": 1})

    with pytest.raises(InvalidInput):
        kernel.dispatch(Annotate(run_id=run.pk, values=values))

    assert not WorkflowAnnotation.objects.exists()


def test_a_missing_run_is_a_typed_error(kernel: Kernel) -> None:
    with pytest.raises(RunNotFound):
        kernel.dispatch(Annotate(run_id=uuid.uuid4(), values={"a": 1}))
