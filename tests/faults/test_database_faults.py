"""The database misbehaves: COMMITs whose answer is lost, conflicts, killed connections, a server that is away."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from tests.concurrency.threads import together
from tests.hosts.working import working
from tests.invariants import check_all
from tests.waiting import until
from tests.waits import purchase
from tests.workflows import chain, failing, fan
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Failed, StageError
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    Annotate,
    AnswerStage,
    ClaimPendingRuns,
    CreateRun,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    ReleaseStages,
    RerunFrom,
    StartStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowAnnotation, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def unanswered_commit(*, landed: bool = True) -> Iterator[None]:
    """Let the next COMMIT of this thread's connection raise as if the server had gone, after (or before) it landed."""
    database = connections["default"]
    real = database._commit  # type: ignore[attr-defined]
    lost: list[str] = []

    def lose() -> None:
        database._commit = real  # type: ignore[attr-defined]
        lost.append("lost")
        raise OperationalError("server closed the connection unexpectedly")

    def commit() -> None:
        if landed:
            real()
        lose()

    def statement(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        # A statement that writes outside of a transaction is one by itself, and so its own COMMIT.
        if lost or database.in_atomic_block or not sql.lstrip().startswith("WITH"):
            return execute(sql, params, many, context)
        if landed:
            execute(sql, params, many, context)
        return lose()

    database._commit = commit  # type: ignore[attr-defined]
    try:
        with database.execute_wrapper(statement):
            yield
    finally:
        assert lost, "no COMMIT was made"


def worker(slots: int = 1) -> Starter:
    return Starter(worker_id=uuid.uuid4(), slots=slots)


def take(kernel: Kernel, starter: Starter) -> StartedStage:
    return kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=starter)).started[0]


@pytest.fixture
def engine(known: Any) -> Kernel:
    known(chain(2), fan(2), failing())
    return create_test_kernel()


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("key", [None, "key"])
def test_creating_a_run_whose_commit_is_not_answered_makes_one_run(engine: Kernel, landed: bool, key: str) -> None:
    with unanswered_commit(landed=landed):
        result = engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}, idempotency_key=key))

    assert result.created
    assert WorkflowRun.objects.get().pk == result.run_id
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_claim_whose_commit_is_not_answered_still_starts_its_stage_here(engine: Kernel, landed: bool) -> None:
    engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    starter = worker()

    with unanswered_commit(landed=landed):
        result = engine.dispatch(ClaimPendingRuns(max_claims=1, starter=starter))

    row = StageRun.objects.get()
    assert [item.stage_run_id for item in result.started] == [row.pk]
    assert (row.token, row.worker) == (result.started[0].token, starter.worker_id)
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_start_whose_commit_is_not_answered_holds_the_right_token(engine: Kernel, landed: bool) -> None:
    engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    engine.dispatch(ClaimPendingRuns())

    with unanswered_commit(landed=landed):
        (started,) = engine.dispatch(StartStages(starter=worker())).started

    assert StageRun.objects.get().token == started.token == 1
    assert OutboxEvent.objects.filter(type="stage.started").count() == 1
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_finish_whose_commit_is_not_answered_counts_once_and_goes_on_here(engine: Kernel, landed: bool) -> None:
    engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    starter = worker()
    started = take(engine, starter)
    outcome = Outcome(started, Completed(inline({"value": 2})), timedelta(0))

    with unanswered_commit(landed=landed):
        (finished,) = engine.dispatch(FinishStages(outcomes=(outcome,), starter=starter)).finished

    assert finished.kind == "completed"
    assert [item.stage_id for item in finished.next] == ["add-2"]
    assert StageRun.objects.get(stage="add-2").token == finished.next[0].token
    assert StageAttempt.objects.count() == 1
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_failure_whose_commit_is_not_answered_spends_one_attempt(engine: Kernel, landed: bool) -> None:
    engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    started = take(engine, worker())
    outcome = Outcome(started, Failed(StageError("X", "Y", "z"), timedelta(0)), timedelta(0))

    with unanswered_commit(landed=landed):
        (finished,) = engine.dispatch(FinishStages(outcomes=(outcome,))).finished

    assert finished.kind == "retrying"
    assert StageRun.objects.get().failures == 1
    check_all()


def test_a_ghost_is_not_taken_for_a_commit_of_its_own(engine: Kernel) -> None:
    engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    starter = worker()
    old = take(engine, starter)
    engine.dispatch(ReleaseStages(worker_id=starter.worker_id, tokens={old.stage_run_id: old.token}))
    outcome = Outcome(old, Completed(inline({"value": 666})), timedelta(0))

    with unanswered_commit(landed=True):
        (finished,) = engine.dispatch(FinishStages(outcomes=(outcome,), starter=starter)).finished

    assert (finished.kind, finished.next) == ("ghost", ())
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_cancel_whose_commit_is_not_answered_says_that_it_cancelled(known: Any, landed: bool) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})

    with unanswered_commit(landed=landed):
        assert cancel_run(run)

    assert OutboxEvent.objects.filter(type="run.cancelled").count() == 1
    assert not cancel_run(run)
    check_all()


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("key", [None, "key"])
def test_a_rerun_whose_commit_is_not_answered_happens_once(engine: Kernel, landed: bool, key: str | None) -> None:
    run_id = engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1})).run_id
    take(engine, worker())
    cancel_run(run_id)

    with unanswered_commit(landed=landed):
        result = engine.dispatch(RerunFrom(run_id=run_id, stage_id="add-1", idempotency_key=key))

    assert (result.generation, result.superseded, result.replayed) == (1, ("add-1",), False)
    assert OutboxEvent.objects.filter(type="run.rerun").count() == 1
    check_all()


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("key", [None, "key"])
def test_an_answer_whose_commit_is_not_answered_is_given_once(
    engine: Kernel, known: Any, landed: bool, key: str | None
) -> None:
    known(purchase())
    run_id = engine.dispatch(CreateRun(workflow_id="purchase", input={"amount": 500})).run_id
    InlineHost(engine).drain()
    answer = AnswerStage(run_id=run_id, stage_id="approve", data={"outcome": "approved"}, idempotency_key=key)

    with unanswered_commit(landed=landed):
        assert engine.dispatch(answer).answered

    assert OutboxEvent.objects.filter(type="stage.answered").count() == 1
    if key is not None:
        assert not engine.dispatch(answer).answered, "a later command only hears of it"
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_reaping_and_annotating_twice_over_leaves_one_trace(engine: Kernel, landed: bool) -> None:
    run_id = engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1})).run_id
    take(engine, worker())

    with unanswered_commit(landed=landed):
        engine.dispatch(ReapStaleLeases())
    with unanswered_commit(landed=landed):
        engine.dispatch(Annotate(run_id=run_id, values={"a": 1}, emit_event=True))

    assert (StageAttempt.objects.count(), WorkflowAnnotation.objects.count()) == (1, 1)
    check_all()


def test_a_conflict_is_repeated_and_in_the_end_a_typed_error(engine: Kernel) -> None:
    run_id = engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1})).run_id
    tries = []

    def locked(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and "annotation" in sql:
            tries.append(sql)
            if len(tries) < fails:
                raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    fails = 3
    with connection.execute_wrapper(locked):
        assert engine.dispatch(Annotate(run_id=run_id, values={"a": 1})).stored == 1
    fails, tries = 99, []
    with connection.execute_wrapper(locked), pytest.raises(DatabaseConflict, match="database is locked"):
        engine.dispatch(Annotate(run_id=run_id, values={"b": 1}))

    assert len(tries) == 5
    assert list(WorkflowAnnotation.objects.values_list("key", flat=True)) == ["a"]


def test_in_the_callers_transaction_nothing_is_repeated(engine: Kernel) -> None:
    tries = []

    def locked(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT" in sql:
            tries.append(sql)
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(locked), pytest.raises(DatabaseConflict), transaction.atomic():
        engine.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))

    assert len(tries) == 1
    assert not WorkflowRun.objects.exists()


def test_a_database_that_is_away_is_a_typed_error_and_loses_nothing(
    known: Any, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    known(chain(1))
    clock = FakeClock()
    nowhere = {"NAME": "/nowhere/at/all"} if backend == "sqlite" else {"HOST": "127.0.0.1", "PORT": 1}
    with monkeypatch.context() as patch:
        for key, value in nowhere.items():
            patch.setitem(connection.settings_dict, key, value)
        connection.close()
        with pytest.raises(DatabaseUnavailable):
            create_test_kernel(clock=clock).dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    connection.close()

    assert clock.now() > FakeClock().now(), "it did not wait between its tries"
    assert not WorkflowRun.objects.exists()


@pytest.mark.postgresql
def test_a_worker_whose_connections_are_killed_again_and_again_ends_every_run(known: Any) -> None:
    known(fan(3))
    runs = [create_run("fan", {"value": 1}) for _ in range(30)]
    done = threading.Event()

    def kill() -> int:
        count = 0
        while not done.wait(0.05):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                count += cursor.fetchone()[0]
            connection.close()
            if count >= 100:
                break
        return count

    def work() -> None:
        with working(threads=4):
            until(lambda: _open_runs() == 0, "all runs have ended", seconds=120)
        done.set()

    killed, _ = together([kill, work])
    connection.close()

    assert killed > 0
    assert check_all() == len(runs)
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"COMPLETED"}


def _open_runs() -> int:
    """Count the runs that are not finished, on a connection that may be killed meanwhile."""
    try:
        return WorkflowRun.objects.open().count()
    except OperationalError:
        connection.close()
        return -1


def test_nothing_depends_on_the_time_zone_of_the_session(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    if connection.vendor == "postgresql":
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "America/New_York")
        connection.close()
        connection.__dict__.pop("timezone", None)
        connection.__dict__.pop("timezone_name", None)
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '-05:00'")
    try:
        later = create_run("chain", {"value": 1})
        claimed = get_kernel().dispatch(ClaimPendingRuns()).claimed
    finally:
        monkeypatch.undo()
        connection.__dict__.pop("timezone", None)
        connection.__dict__.pop("timezone_name", None)
        connection.close()

    assert set(claimed) == {run.pk, later.pk}
    assert abs(later.created_at - run.created_at) < timedelta(minutes=1)
