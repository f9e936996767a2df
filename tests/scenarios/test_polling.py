"""Suspending for work that goes on elsewhere, and checking whether it is done (T-38 to T-46)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.invariants import check_all, events
from tests.workflows import Number, add_stage, total
from workflow_engine import Completion, cancel_run, create_run
from workflow_engine.definitions import NonRetryableError, Retry, RetryAfter, StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import PollSuspendedStages
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowLog, WorkflowRun
from workflow_engine.redaction import MASK
from workflow_engine.testing import FakeClock, run_workflow

pytestmark = pytest.mark.django_db


class Batch(BaseModel):
    batch_id: str


class Provider:
    """A batch service: what it is asked, and what it answers, in order; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[str] = []
        self.submitted = 0

    def ask(self, batch_id: str) -> Completion[Any]:
        self.asked.append(batch_id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer  # type: ignore[no-any-return]


PROVIDER = Provider()


@stage("submit", check_retry=Retry(max_attempts=3, initial=timedelta(seconds=10), factor=2, jitter=0))
def submit(ctx: StageContext[Number]) -> Number:
    PROVIDER.submitted += 1
    ctx.metric("submitted", 1)
    ctx.suspend(Batch(batch_id=f"b{ctx.input.value}"))


@submit.check_completion
def submitted(ctx: StageContext[Number], state: Batch) -> Completion[Number]:
    ctx.log.info("checked", batch=state.batch_id)
    return PROVIDER.ask(state.batch_id)


@stage("submit-slowly")
def submit_slowly(ctx: StageContext[Number]) -> Number:
    ctx.suspend({"batch_id": "slow"}, poll_every=timedelta(minutes=20), max_wait=timedelta(hours=2))


@submit_slowly.check_completion(timeout=timedelta(seconds=5))
async def submitted_slowly(ctx: StageContext[Number], state: dict[str, str]) -> Completion[Number]:
    return PROVIDER.ask(state["batch_id"])


@pytest.fixture(autouse=True)
def provider(known: Callable[..., Any]) -> Iterator[Provider]:
    PROVIDER.__init__()  # type: ignore[misc]
    known(
        define_workflow("batch", input=Number).pipe(submit).pipe(add_stage("after")).build(),
        define_workflow("slow", input=Number).pipe(submit_slowly).build(),
        define_workflow("mixed", input=Number).parallel(submit, add_stage("beside")).pipe(total).build(),
    )
    yield PROVIDER


def row(run: WorkflowRun, stage_id: str = "submit") -> StageRun:
    return StageRun.objects.get(run=run, stage=stage_id)


def start(host: InlineHost, workflow: str = "batch", value: int = 1) -> WorkflowRun:
    run = create_run(workflow, {"value": value})
    host.drain()
    return run


def test_t38_a_suspended_stage_stores_its_state_next_check_and_deadline_and_its_run_goes_on_running(
    host: InlineHost, clock: FakeClock
) -> None:
    run = start(host)

    found = row(run)
    assert (found.status, found.wait_kind, found.worker, found.polls) == ("SUSPENDED", "poll", None, 0)
    assert found.state == {"json": '{"batch_id":"b1"}'}
    assert (found.wake_at, found.poll_every) == (clock.now() + timedelta(seconds=30), 30)
    assert (found.suspended_at, found.wait_until) == (clock.now(), clock.now() + timedelta(hours=24))
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"
    assert events(run)[-2:] == ["stage.suspended", "run.suspended"]
    told = OutboxEvent.objects.get(type="stage.suspended").payload
    assert (told["waits_for"], told["wake_at"]) == ("poll", (clock.now() + timedelta(seconds=30)).isoformat())
    assert StageAttempt.objects.get().outcome == "suspended"
    check_all()


def test_t39_it_is_not_checked_before_it_is_due_and_again_after_the_wait_that_the_check_asks_for(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)
    provider.answers = [Completion.pending(), Completion.pending(timedelta(minutes=7)), Completion.pending()]
    clock.advance(timedelta(seconds=29))
    assert (host.drain(), provider.asked) == (0, [])

    for wait in (30, 7 * 60, 30):
        clock.move_to(row(run).wake_at)  # type: ignore[arg-type]
        assert host.drain() == 1
        assert row(run).wake_at == clock.now() + timedelta(seconds=wait)

    found = row(run)
    assert (found.polls, found.state, provider.asked) == (3, {"json": '{"batch_id":"b1"}'}, ["b1"] * 3)
    assert WorkflowLog.objects.filter(message="checked").count() == 3
    assert events(run)[-1] == "run.suspended"


def test_t40_ready_work_completes_the_stage_and_advances_the_run_in_one_step(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)
    provider.answers = [Completion.ready(Number(value=41))]
    clock.advance(timedelta(seconds=30))

    host.drain()

    run.refresh_from_db()
    found = row(run)
    assert (run.status, run.get_output(), provider.submitted) == ("COMPLETED", {"value": 42}, 1)
    assert (found.status, found.metrics, found.wait_kind, found.state) == ("COMPLETED", {"submitted": 1}, "", None)
    assert found.finished_at == clock.now()
    assert events(run)[3:] == [
        "stage.suspended",
        "run.suspended",
        "stage.completed",
        "stage.started",
        "stage.completed",
        "run.completed",
    ]
    completed = OutboxEvent.objects.filter(type="stage.completed").order_by("sequence")[0].payload
    assert completed["duration_ms"] == 30_000
    history = StageAttempt.objects.filter(stage="submit").order_by("id").values_list("kind", "outcome")
    assert list(history) == [("body", "suspended"), ("check", "completed")]
    check_all()


def test_t41_at_the_deadline_there_is_a_last_check_and_work_that_is_not_done_then_has_failed(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host, "slow")
    provider.answers = [Completion.pending()]
    for _ in range(6):
        clock.move_to(row(run, "submit-slowly").wake_at)  # type: ignore[arg-type]
        host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["class"]) == ("FAILED", "WAIT_EXPIRED", "TimeoutError")
    assert len(provider.asked) == 6
    assert run.finished_at - run.started_at == timedelta(hours=2)
    check_all()


def test_t41_work_that_is_ready_at_the_deadline_is_done(host: InlineHost, clock: FakeClock, provider: Provider) -> None:
    run = start(host, "slow")
    provider.answers = [Completion.ready(Number(value=1))]
    clock.advance(timedelta(hours=5))

    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"


def test_t41_after_the_deadline_an_error_of_the_check_is_final(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host, "slow")
    provider.answers = [ConnectionError("provider away")]
    clock.advance(timedelta(hours=5))

    host.drain()

    run.refresh_from_db()
    assert run.error["code"] == "WAIT_EXPIRED"
    assert "provider away" in run.error["message"]


def test_a_failure_without_a_reason_says_so() -> None:
    assert Completion.failed(" ").reason == "the completion check gave no reason"


def test_t42_work_that_has_failed_fails_stage_and_run_at_once(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)
    provider.answers = [Completion.failed("the provider refused all prompts")]
    clock.advance(timedelta(seconds=30))

    host.drain()

    run.refresh_from_db()
    error = {"code": "CHECK_FAILED", "class": "", "message": "the provider refused all prompts", "stage": "submit"}
    assert (run.status, run.error) == ("FAILED", error)
    assert events(run)[-2:] == ["stage.failed", "run.failed"]
    check_all()


def test_t42_an_error_of_the_check_is_tried_again_by_its_own_policy_and_then_fails(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)
    provider.answers = [ConnectionError("503")]
    waits = []
    while WorkflowRun.objects.get(pk=run.pk).status == "RUNNING":
        before, due = clock.now(), row(run).wake_at
        clock.move_to(due)  # type: ignore[arg-type]
        waits.append((clock.now() - before).total_seconds())
        host.drain()

    run.refresh_from_db()
    assert (waits, len(provider.asked)) == ([30, 10, 20], 3)
    assert (run.error["class"], run.error["message"], row(run).failures) == ("ConnectionError", "503", 0)
    history = StageAttempt.objects.filter(kind="check").order_by("id").values_list("outcome", flat=True)
    assert list(history) == ["retrying", "retrying", "failed"]
    check_all()


def test_t42_a_check_that_works_again_leaves_no_stale_error_and_the_budget_is_whole_again(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)
    wrong, later = ConnectionError("503"), Completion.pending()
    provider.answers = [wrong, wrong, later, wrong, wrong, Completion.ready(Number(value=1))]
    for _ in range(2):
        clock.move_to(row(run).wake_at)  # type: ignore[arg-type]
        host.drain()
    assert (row(run).check_errors, row(run).error["message"]) == (2, "503")  # type: ignore[index]
    clock.move_to(row(run).wake_at)  # type: ignore[arg-type]
    host.drain()
    assert (row(run).check_errors, row(run).error) == (0, None)
    for _ in range(3):
        clock.move_to(row(run).wake_at)  # type: ignore[arg-type]
        host.drain()

    assert (WorkflowRun.objects.get(pk=run.pk).status, row(run).error) == ("COMPLETED", None)


@pytest.mark.parametrize("error", [NonRetryableError("gone"), ValueError("x")], ids=["non-retryable", "listed"])
def test_t42_what_the_policy_does_not_try_again_is_final(
    known: Callable[..., Any], host: InlineHost, clock: FakeClock, provider: Provider, error: Exception
) -> None:
    @stage("strict", check_retry=Retry(no_retry_on=ValueError))
    def strict(ctx: StageContext[None]) -> int:
        ctx.suspend()

    @strict.check_completion
    def check(ctx: StageContext[None], state: None) -> Completion[int]:
        raise error

    known(define_workflow("strict-check").pipe(strict).build())
    run = create_run("strict-check")
    host.drain()
    clock.advance(timedelta(seconds=30))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "FAILED"


def test_a_check_may_ask_for_the_time_of_its_next_try(host: InlineHost, clock: FakeClock, provider: Provider) -> None:
    run = start(host)
    provider.answers = [RetryAfter(90)]
    clock.advance(timedelta(seconds=30))
    host.drain()

    assert row(run).wake_at == clock.now() + timedelta(seconds=90)


def test_t43_a_cancellation_during_a_check_drops_what_it_finds(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host)

    def cancel() -> Completion[Number]:
        cancel_run(run)
        return Completion.ready(Number(value=1))

    provider.answers = [cancel]
    clock.advance(timedelta(seconds=30))
    host.drain()

    run.refresh_from_db()
    assert (run.status, row(run).status, row(run).output) == ("CANCELLED", "CANCELLED", None)
    assert events(run)[-2:] == ["stage.cancelled", "run.cancelled"]
    check_all()


def test_t44_a_claimed_check_is_nobody_elses_and_all_that_are_due_have_their_turn(
    host: InlineHost, kernel: Kernel, clock: FakeClock, provider: Provider
) -> None:
    runs = [start(host, value=number) for number in range(25)]
    provider.answers = [Completion.pending()]
    clock.advance(timedelta(seconds=30))

    first = kernel.dispatch(PollSuspendedStages(worker_id=host.worker_id, max=10)).claimed
    second = kernel.dispatch(PollSuspendedStages(worker_id=host.worker_id, max=10)).claimed
    host.drain()

    claimed = [check.stage.run_id for check in (*first, *second)]
    assert len(set(claimed)) == 20
    assert len(provider.asked) == 5
    tokens = {check.stage.stage_run_id: check.stage.token for check in first}
    assert dict(StageRun.objects.filter(pk__in=tokens).values_list("pk", "token")) == tokens
    assert {run.pk for run in runs} >= set(claimed)


def test_t44_the_longest_waiting_is_checked_first(
    host: InlineHost, kernel: Kernel, clock: FakeClock, provider: Provider
) -> None:
    provider.answers = [Completion.pending()]
    late = start(host, "slow")
    clock.advance(timedelta(minutes=19, seconds=45))
    soon = start(host)
    clock.advance(timedelta(minutes=1))

    claimed = kernel.dispatch(PollSuspendedStages(worker_id=host.worker_id, max=1)).claimed

    assert [check.stage.run_id for check in claimed] == [late.pk]
    assert soon.pk != late.pk


def test_t45_a_check_is_made_outside_of_any_transaction(
    transactional_db: None, host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    from django.db import connection

    run = start(host)
    seen: list[bool] = []

    def look() -> Completion[Number]:
        seen.append(connection.in_atomic_block)
        return Completion.ready(Number(value=1))

    provider.answers = [look]
    clock.advance(timedelta(seconds=30))
    host.drain()

    assert (seen, WorkflowRun.objects.get(pk=run.pk).status) == ([False], "COMPLETED")


def test_t46_a_parallel_group_waits_for_its_suspended_member(
    host: InlineHost, clock: FakeClock, provider: Provider
) -> None:
    run = start(host, "mixed", 10)
    assert (row(run, "beside").status, row(run).status) == ("COMPLETED", "SUSPENDED")
    assert not StageRun.objects.filter(run=run, stage="total").exists()
    provider.answers = [Completion.ready(Number(value=5))]
    clock.advance(timedelta(seconds=30))

    host.drain()

    assert WorkflowRun.objects.select_related("data").get(pk=run.pk).get_output() == {"value": 16}
    check_all()


@pytest.mark.parametrize("state", [object(), float("nan"), {"a": {1: "x", "b": object()}}, "a\x00b"], ids=repr)
def test_a_state_that_is_not_json_fails_the_stage_and_names_it(
    known: Callable[..., Any], host: InlineHost, state: Any
) -> None:
    @stage("odd")
    def odd(ctx: StageContext[None]) -> int:
        ctx.suspend(state)

    @odd.check_completion
    def check(ctx: StageContext[None], state: Any) -> Completion[int]:
        return Completion.ready(1)

    known(define_workflow("odd-state").pipe(odd).build())
    run = create_run("odd-state")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"], row(run, "odd").attempt) == ("FAILED", "INVALID_PAYLOAD", 1)
    assert row(run, "odd").state is None


def test_a_state_that_its_check_cannot_read_fails_the_stage_when_it_suspends(
    known: Callable[..., Any], host: InlineHost
) -> None:
    @stage("typo")
    def typo(ctx: StageContext[None]) -> int:
        ctx.suspend({"batch": "b1"})

    @typo.check_completion
    def check(ctx: StageContext[None], state: Batch) -> Completion[int]:
        return Completion.ready(1)

    known(define_workflow("typos").pipe(typo).build())
    run = create_run("typos")
    host.drain()

    run.refresh_from_db()
    assert run.error["code"] == "INVALID_PAYLOAD"
    assert "batch_id" in run.error["message"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"poll_every": timedelta(0)}, "poll_every"),
        ({"poll_every": 5}, "poll_every"),
        ({"max_wait": timedelta(seconds=-1)}, "max_wait"),
        ({"first_poll_at": "tomorrow"}, "first_poll_at"),
    ],
    ids=["zero", "number", "negative", "text"],
)
def test_nonsense_times_are_refused_for_good_with_the_field(
    known: Callable[..., Any], host: InlineHost, options: dict[str, Any], field: str
) -> None:
    @stage("odd")
    def odd(ctx: StageContext[None]) -> int:
        ctx.suspend(None, **options)

    @odd.check_completion
    def check(ctx: StageContext[None], state: None) -> Completion[int]:
        return Completion.ready(1)

    known(define_workflow("odd-times").pipe(odd).build())
    run = create_run("odd-times")
    host.drain()

    run.refresh_from_db()
    assert (run.error["code"], row(run, "odd").attempt) == ("INVALID_INPUT", 1)
    assert f"{field}: must be" in run.error["message"]


def test_suspending_without_a_check_fails_the_stage_for_good(known: Callable[..., Any], host: InlineHost) -> None:
    @stage("forgetful")
    def forgetful(ctx: StageContext[None]) -> int:
        ctx.suspend({})

    known(define_workflow("forgets").pipe(forgetful).build())
    run = create_run("forgets")
    host.drain()

    run.refresh_from_db()
    assert run.error["code"] == "INVALID_DEFINITION"
    assert "@stage.check_completion" in run.error["message"]


@pytest.mark.parametrize("answer", [None, 5, {"ready": True}], ids=repr)
def test_a_check_that_returns_something_else_is_an_error_of_the_check(
    host: InlineHost, clock: FakeClock, provider: Provider, answer: Any
) -> None:
    run = start(host)
    provider.answers = [lambda: answer]
    clock.advance(timedelta(seconds=30))
    host.drain()

    found = row(run)
    assert (found.status, found.check_errors) == ("SUSPENDED", 1)
    assert "must return Completion.ready" in found.error["message"]  # type: ignore[index]


def test_an_output_of_the_wrong_type_fails_the_stage(host: InlineHost, clock: FakeClock, provider: Provider) -> None:
    run = start(host)
    provider.answers = [Completion.ready({"value": "many"})]
    clock.advance(timedelta(seconds=30))
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("FAILED", "INVALID_OUTPUT")


def test_run_workflow_jumps_from_check_to_check(provider: Provider) -> None:
    provider.answers = [Completion.pending(), Completion.pending(), Completion.ready(Number(value=1))]

    result = run_workflow("batch", {"value": 3})

    assert (result.output, provider.asked) == (Number(value=2), ["b3"] * 3)


def test_delivering_a_suspended_stage_again_does_not_submit_twice(host: InlineHost, provider: Provider) -> None:
    start(host)
    for _ in range(3):
        assert host.take() == []

    assert provider.submitted == 1


def test_a_check_finds_files_facts_and_outputs_where_a_body_does(
    known: Callable[..., Any], host: InlineHost, clock: FakeClock
) -> None:
    @stage("submit-files")
    def submit_files(ctx: StageContext[Number]) -> str:
        ctx.artifact("request.txt", "asked")
        ctx.storage.save("batch", {"id": 7})
        ctx.suspend({"first": True})

    @submit_files.check_completion
    def check(ctx: StageContext[Number], state: dict[str, bool]) -> Completion[str]:
        ctx.artifact("answer.txt", "answered")
        ctx.artifact("request.txt", "asked and answered")
        ctx.annotate("checked", True)
        ctx.metric("checks", 1)
        before = ctx.require("first").value
        return Completion.ready(f"{ctx.input.value} {before} {ctx.storage.load('batch')['id']} {state['first']}")

    known(define_workflow("files", input=Number).pipe(add_stage("first")).pipe(submit_files).build())
    run = create_run("files", {"value": 1})
    host.drain()
    assert [item.name for item in run.artifacts.all()] == ["request.txt"]
    clock.advance(timedelta(seconds=30))
    host.drain()

    run.refresh_from_db()
    assert (run.error, run.get_output()) == (None, "2 2 7 True")
    assert {item.name: item.read() for item in run.artifacts.all()} == {
        "request.txt": b"asked and answered",
        "answer.txt": b"answered",
    }
    assert row(run, "submit-files").metrics == {"checks": 1}
    assert list(run.annotations.values_list("key", flat=True)) == ["checked"]


def test_many_stages_due_over_an_hour_leave_no_backlog(host: InlineHost, clock: FakeClock, provider: Provider) -> None:
    provider.answers = [Completion.pending(timedelta(minutes=60))]
    for number in range(60):
        start(host, value=number)
    for _ in range(60):
        clock.advance(timedelta(minutes=1))
        host.drain()

    assert len(provider.asked) == 60 * 1
    assert not StageRun.objects.filter(wake_at__lte=clock.now()).exists()


def test_the_reason_of_a_failed_check_is_stored_without_secrets_and_odd_characters(
    provider: Provider, host: InlineHost, clock: FakeClock
) -> None:
    provider.answers = [Completion.failed("refused: password=hunter2 \x00 \ud800")]
    run = start(host)
    clock.advance(timedelta(seconds=30))
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("FAILED", "CHECK_FAILED")
    assert run.error["message"].startswith(f"refused: password={MASK}")
    assert "hunter2" not in run.error["message"]
