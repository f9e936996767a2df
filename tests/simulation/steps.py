"""Mutants in which a step is cut in two, left out, or does what it must not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.executors import checks as check_bodies
from workflow_engine.executors import storage
from workflow_engine.hosts import atomic
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import ending, finishing, idempotency
from workflow_engine.kernel import together as joined
from workflow_engine.kernel.commands import CancelRun, DeliverNotices, RerunFrom
from workflow_engine.kernel.commands import cancel_run as cancelling
from workflow_engine.kernel.commands import reap_stale_leases as reaping
from workflow_engine.kernel.effects import call_effects
from workflow_engine.kernel.unit_of_work import transact
from workflow_engine.models import IdempotencyKey, OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.stage_changes import StageChanges
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import OPEN_RUN, RunStatus, StageStatus

from .breaking import attribute, everywhere, handler, mutant

LONG = 1e9


@mutant("nobody takes stages from lost workers")
def no_reaper() -> Iterator[None]:
    with attribute(Orchestrator, "_reap", lambda self: 0):
        yield


@mutant("work is found by messages only")
def no_sweeper() -> Iterator[None]:
    from workflow_engine.testing.simulation import workers

    with (
        attribute(Orchestrator, "_ring", lambda self: 0),
        attribute(Orchestrator, "_claim", lambda self: 0),
        attribute(Orchestrator, "_reap_stuck", lambda self: 0),
        attribute(workers, "LONGEST_REST_SECONDS", LONG),
        attribute(workers.SimulatedWorker, "_rest", lambda self: LONG),
    ):
        yield


@mutant("the run goes on in a step of its own after the completion, and nothing looks for runs that did not (P1)")
def advance_after_commit() -> Iterator[None]:
    from workflow_engine.kernel.commands.transition_run import advance

    def make(original: Any) -> Any:
        def complete(work: Any, run: Any, outcome: Any, places: Any, **given: Any) -> Any:
            def later() -> None:
                def step(second: Any) -> None:
                    row = second.lock_run(run.pk)
                    if row is not None and row.status == RunStatus.RUNNING:
                        advance(second, row)

                transact(work.ports, work.causation_id, step)

            if outcome.stage.map_index >= 0:
                return original(work, run, outcome, places, **given)
            transaction.on_commit(later, using=work.ports.using)
            return []

        return complete

    with (
        everywhere(joined.complete, make),
        attribute(Orchestrator, "_reap_stuck", lambda self: 0),
    ):
        yield


@mutant("a run that has been running for a minute is failed (P2, P3, P4)")
def age_means_dead() -> Iterator[None]:
    def reap_stuck(self: Any) -> int:
        ports = self._kernel.ports
        old = WorkflowRun.objects.using(ports.using).filter(
            status=RunStatus.RUNNING, started_at__lt=ports.read_time() - timedelta(seconds=60)
        )

        def step(work: Any, pk: Any) -> None:
            run = work.lock_run(pk)
            if run is not None and run.status == RunStatus.RUNNING:
                ending.cancel_open_stages(work, run)
                ending.fail_run(work, run, {"code": "STUCK_RUN_REAPED"})

        for pk in list(old.values_list("pk", flat=True)):
            transact(ports, pk, lambda work, pk=pk: step(work, pk))  # type: ignore[misc]
        return 0

    with attribute(Orchestrator, "_reap_stuck", reap_stuck):
        yield


@mutant("a key is written down in a transaction of its own, after the run's (P6)")
def key_after_commit() -> Iterator[None]:
    def make(original: Any) -> Any:
        def claim_key(work: Any, **given: Any) -> Any:
            using = work.ports.using
            digest = idempotency.digest_of(given["scope"], given["command_type"], given["key"])
            found = IdempotencyKey.objects.using(using).filter(pk=digest).first()
            if found is not None:
                return found.result
            row = IdempotencyKey(
                digest=digest,
                command=given["command_type"],
                request_hash=given["request_hash"],
                result=given["result"],
                run_id=given["run_id"],
                created_at=work.ports.clock.now(),
            )
            write = IdempotencyKey.objects.using(using)
            transaction.on_commit(lambda: write.bulk_create([row], ignore_conflicts=True) and None, using=using)
            return None

        return claim_key

    with everywhere(idempotency.claim_key, make):
        yield


@mutant("a body that kills its worker is given to the next one for ever (P7)")
def no_crash_budget() -> Iterator[None]:
    original = StageChanges.put_back

    def put_back(self: Any, **columns: Any) -> bool:
        if "crashes" in columns:
            columns["crashes"] = 0
        return bool(original(self, **columns))

    with attribute(StageChanges, "put_back", put_back):
        yield


@mutant("a stage pays for the crashes of its neighbours")
def crashes_in_company_count() -> Iterator[None]:
    original = reaping._reap

    def reap(work: Any, *, pk: Any, **given: Any) -> Any:
        rows = StageRun.objects.using(work.ports.using).filter(pk=pk)
        rows.update(alone=True, crashes=work.ports.limits.max_crashes - 1)
        return original(work, pk=pk, **given)

    with attribute(reaping, "_reap", reap):
        yield


@mutant("cancel reads the run, and writes later without a lock (P8)", covers=("no-status-of-the-run",))
def cancel_reads_first() -> Iterator[None]:
    def make(original: Any) -> Any:
        def cancel(command: Any, ports: Any, causation_id: Any) -> Any:
            seen = WorkflowRun.objects.using(ports.using).select_related("data").get(pk=command.run_id)
            if seen.status not in OPEN_RUN:
                return cancelling.CancelRunResult(cancelled=False, status=seen.status)
            ports.clock.pause(20)

            def step(work: Any) -> None:
                fresh = work.lock_run(command.run_id)
                fresh.status = seen.status
                ending.cancel_run(work, fresh)

            transact(ports, causation_id, step)
            return cancelling.CancelRunResult(cancelled=True, status="CANCELLED")

        return cancel

    with handler(CancelRun, make):
        yield


@mutant("cancel leaves the open stages as they are")
def cancel_forgets_stages() -> Iterator[None]:
    with attribute(StageRunQuerySet, "cancel_open", lambda self, run, now: 0):
        yield


@mutant("an error of a check is final (P11)")
def check_errors_are_final() -> Iterator[None]:
    from dataclasses import replace

    original = check_bodies.failure
    with attribute(check_bodies, "failure", lambda *given: replace(original(*given), retry_in=None)):
        yield


@mutant("all attempts put their output under one key, and overwrite each other's (P5)")
def shared_blob_key() -> Iterator[None]:
    def make(original: Any) -> Any:
        return lambda stage: f"runs/{stage.run_id}/{stage.stage_id}/{stage.map_index}/"

    def key_of(key: str) -> str:
        return key.rpartition("output-")[0] or key

    def put(self: Any, key: str, data: bytes) -> str:
        self._blobs[key_of(key)] = bytes(data)
        return key_of(key)

    with everywhere(storage.attempt_root, make), attribute(InMemoryBlobStore, "put", put):
        yield


@mutant("a rerun deletes the run's blobs a while after its commit (P18)")
def rerun_deletes_by_prefix() -> Iterator[None]:
    def make(original: Any) -> Any:
        def rerun(command: Any, ports: Any, causation_id: Any) -> Any:
            result = original(command, ports, causation_id)
            ports.clock.pause(10)
            ports.blobs.delete_folder(f"runs/{command.run_id}")
            return result

        return rerun

    with handler(RerunFrom, make):
        yield


@mutant("a rerun leaves the old rows counting")
def rerun_supersedes_nothing() -> Iterator[None]:
    with attribute(StageRunQuerySet, "supersede", lambda self, run, group_number, now: 0):
        yield


@mutant("effects are called after the commit")
def effects_after_commit() -> Iterator[None]:
    def later(ports: Any, result: Any) -> None:
        transaction.on_commit(lambda: call_effects(ports, result), using=ports.using)

    with attribute(finishing, "call_effects", later):
        yield


@mutant("effects are called before the token is checked")
def effects_before_the_token() -> Iterator[None]:
    original = finishing._store

    def store(work: Any, row: Any, outcome: Any) -> bool:
        call_effects(work.ports, outcome.result)
        return bool(original(work, row, outcome))

    with attribute(finishing, "_store", store), attribute(finishing, "call_effects", lambda *given: None):
        yield


@mutant("what the body of an atomic stage wrote is kept though its token is void")
def atomic_ghosts_commit() -> Iterator[None]:
    def finish_inside(kernel: Any, ended: Any, starting: Any) -> Any:
        outcome = ended.outcome()
        command = atomic.FinishStages(outcomes=(outcome,), starter=atomic._starter(outcome, starting))
        return kernel.dispatch(command, causation_id=ended.causation_id).finished[0]

    with attribute(atomic, "_finish_inside", finish_inside):
        yield


@mutant("events are written after the commit of what they tell")
def events_after_commit() -> Iterator[None]:
    from workflow_engine.models import batch

    original = batch._insert

    def insert(using: str, model: Any, rows: Any) -> None:
        if model is OutboxEvent:
            transaction.on_commit(lambda: original(using, model, rows), using=using)
        else:
            original(using, model, rows)

    with attribute(batch, "_insert", insert):
        yield


@mutant("failed attempts are not counted")
def no_retry_budget() -> Iterator[None]:
    original = StageChanges._change

    def change(self: Any, leaving: StageStatus, **columns: Any) -> bool:
        columns.pop("failures", None)
        fails = leaving == StageStatus.RUNNING and columns.get("status") == StageStatus.FAILED
        if fails and columns["error"].get("code") != "WORKER_LOST":
            return bool(self.put_back(due_at=columns["finished_at"], error=columns["error"]))
        return bool(original(self, leaving, **columns))

    with attribute(StageChanges, "_change", change):
        yield


@mutant("nobody tells a parent that its child has ended")
def no_notices() -> Iterator[None]:
    from workflow_engine.kernel.commands.deliver_notices import DeliverNoticesResult

    with handler(DeliverNotices, lambda original: lambda *given: DeliverNoticesResult(delivered=0, is_full=False)):
        yield


@mutant("a stage of a group goes on without its siblings")
def siblings_are_not_waited_for() -> Iterator[None]:
    from workflow_engine.kernel import advance

    original = advance.unfinished_stages

    def make(_: Any) -> Any:
        def unfinished(work: Any, runs: Any) -> Any:
            found = original(work, runs)
            return {key: [row for row in rows if row.status == "FAILED"] for key, rows in found.items()}

        return unfinished

    with everywhere(original, make):
        yield
