from __future__ import annotations

from typing import Any

import pytest

from tests.invariants import events
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.definitions import (
    StageContext,
    define_workflow,
    stage,
)
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import (
    StageRun,
    WorkflowAnnotation,
    WorkflowRun,
)


def test_a_fact_with_an_idempotency_key_is_stored_and_told_once(known: Any, host: InlineHost) -> None:
    @stage("notes")
    def notes(ctx: StageContext[None]) -> None:
        for _ in range(2):
            ctx.annotate("seen", 1, idempotency_key="k", emit_event=True)
        ctx.annotate("nothing", None)

    run = create_run(known(define_workflow("w").pipe(notes).pipe(_again()).build()))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"
    assert list(WorkflowAnnotation.objects.values_list("key", "value")) == [("seen", 1)]
    assert events(run).count("annotation.created") == 1


def _again() -> Any:
    @stage("notes-again")
    def again(ctx: StageContext[None]) -> None:
        ctx.annotate("seen", 2, idempotency_key="k", emit_event=True)

    return again


BAD_NOTES: dict[str, Any] = {
    "a long idempotency key": lambda ctx: ctx.annotate("k", 1, idempotency_key="x" * 300),
    "an actor with NUL": lambda ctx: ctx.annotate("k", 1, actor="\x00"),
    "a huge metric": lambda ctx: ctx.metric("m", 10**400),
    "a metric that is no number": lambda ctx: ctx.metric("m", float("nan")),
    "a metric without name": lambda ctx: ctx.metric("", 1),
    "an artifact without name": lambda ctx: ctx.artifact("", b""),
    "an artifact of no bytes": lambda ctx: ctx.artifact("name", 3),
    "a storage key that climbs": lambda ctx: ctx.storage.save("../up", 1),
    "a stored value that is no JSON": lambda ctx: ctx.storage.save("key", float("nan")),
}


@pytest.mark.parametrize("note", BAD_NOTES.values(), ids=list(BAD_NOTES))
def test_a_bad_note_fails_the_stage_at_once_with_a_typed_error(known: Any, host: InlineHost, note: Any) -> None:
    @stage("notes")
    def notes(ctx: StageContext[None]) -> None:
        note(ctx)

    run = create_run(known(define_workflow("w").pipe(notes).build()))
    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.error["class"]) in [("FAILED", "InvalidInput"), ("FAILED", "InvalidPayload")]
    assert StageRun.objects.get().attempt == 1


def test_a_key_whose_run_was_deleted_says_so(known: Any, kernel: Kernel) -> None:
    from workflow_engine.errors import RunNotFound

    known(chain(1))
    create_run("chain", {"value": 1}, idempotency_key="key").delete()

    with pytest.raises(RunNotFound):
        create_run("chain", {"value": 1}, idempotency_key="key")
