"""What kept waiting stages, and others because of them, from going on; each was reproduced first."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.hosts.resting import holding
from tests.invariants import check_all
from tests.waits import gifts
from tests.workflows import chain
from workflow_engine import Output, create_run
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, StartStages
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)


class Away(InMemoryBlobStore):
    """A blob store that can be away."""

    away = False

    def get(self, key: str) -> bytes:
        if self.away:
            raise ConnectionError("the blob store is away")
        return super().get(key)


@pytest.fixture
def store(clock: FakeClock) -> Iterator[Away]:
    """Return the blob store of the kernel that the public functions use."""
    store = Away()
    with use_kernel(create_test_kernel(clock=clock, blobs=store)):
        yield store


def sized() -> Workflow[Any, Any]:
    """A stage with a large output, and one that depends on it."""

    @stage("big")
    def big(ctx: StageContext[None]) -> dict[str, str]:
        return {"text": "x" * 100_000, "kind": "big"}

    @stage("only-big", when=Output(big).kind == "big")
    def only_big(ctx: StageContext[dict[str, str]]) -> int:
        return 1

    return define_workflow("sized").pipe(big).pipe(only_big).build()


def started_by(kernel: Kernel, slots: int = 1) -> list[uuid.UUID]:
    result = kernel.dispatch(StartStages(starter=Starter(uuid.uuid4(), slots=slots)))
    return [item.run_id for item in result.started]


def before_its_condition(kernel: Kernel) -> tuple[WorkflowRun, WorkflowRun]:
    """Return a run whose next stage has a condition, and a run whose first stage is due after that."""
    run, host = create_run("sized"), InlineHost(kernel)
    host.execute(host.take(run.pk)[0])
    other = create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    return run, other


def test_a_condition_that_cannot_be_decided_now_hides_no_other_stage(
    known: Callable[..., Any], db: None, store: Away, clock: FakeClock
) -> None:
    known(sized(), chain(1))
    kernel = get_kernel()
    run, other = before_its_condition(kernel)
    store.away = True

    assert started_by(kernel) == [other.pk]
    assert kernel.dispatch(StartStages(starter=Starter(uuid.uuid4(), slots=1))).deferred == 0, "it is put off"
    store.away = False
    clock.advance(timedelta(seconds=5))
    assert started_by(kernel) == [run.pk]


def test_a_condition_on_an_output_that_is_lost_fails_its_stage(
    known: Callable[..., Any], db: None, store: Away
) -> None:
    known(sized(), chain(1))
    kernel = get_kernel()
    run, other = before_its_condition(kernel)
    for key in store.list(""):
        store.delete(key)

    assert started_by(kernel) == [other.pk]
    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["class"]) == ("FAILED", "CONDITION_FAILED", "BlobNotFound")
    assert "the output of 'big' cannot be read" in run.error["message"]
    check_all()


@pytest.mark.postgresql
def test_a_skip_whose_run_is_held_hides_no_other_stage(known: Callable[..., Any]) -> None:
    known(gifts(), chain(1))
    kernel = get_kernel()
    run, host = create_run("gifts", {"amount": 1}), InlineHost(kernel)
    host.execute(host.take(run.pk)[0])
    other = create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns())

    with holding(run):
        assert started_by(kernel) == [other.pk]
    assert host.drain(run.pk) == 0
    assert StageRun.objects.get(run=run, stage="gift").status == "SKIPPED"
