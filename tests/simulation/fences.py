"""Mutants without one of the fences of stage runs and runs: tokens, statuses, leases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from django.db.models import F

from workflow_engine.models import StageAttempt, StageRun, guarded
from workflow_engine.models import batch as batches
from workflow_engine.models.stage_changes import StageChanges
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.models.suspensions import Suspendable, SuspendedRows
from workflow_engine.statuses import OPEN_STAGE, StageStatus
from workflow_engine.testing.clock import START
from workflow_engine.testing.simulation.world import World

from .breaking import attribute, everywhere, mutant

ATTEMPTS = "attempts-are-not-unique"
# Which fences are down: the status that is left, and "token" or "status". Mutants may be put together.
_down: set[tuple[str, str]] = set()


def _change(self: Any, leaving: StageStatus, **columns: Any) -> bool:
    """``StageChanges._change`` with only those fences that are up."""
    rows: Any = StageRun.objects.using(self._state.db).filter(pk=self.pk)
    rows = rows if (leaving, "token") in _down else rows.filter(token=self.token)
    rows = rows if (leaving, "status") in _down else rows.filter(status=leaving)
    if not rows.update(**columns):
        return False
    for name, value in columns.items():
        setattr(self, name, value)
    return True


def _per_row(original: Any) -> Any:
    """Return ``change_guarded`` with only those fences that are up (as it is done on SQLite)."""

    def change(using: str, rows: Any, *, leaving: str, **given: Any) -> Any:
        token, status = (leaving, "token") not in _down, (leaving, "status") not in _down
        if token and status:
            return original(using, rows, leaving=leaving, **given)
        changed = set()
        for row in rows:
            # As they are now, so that the statement's own guard always holds.
            now = StageRun.objects.using(using).filter(pk=row["id"]).values_list("token", "status").first()
            if now is None or (token and now[0] != row["held_token"]) or (status and now[1] != leaving):
                continue
            changed |= original(using, [{**row, "held_token": now[0]}], leaving=now[1], **given)
        return changed

    return change


def _without(fence: str, *leaving: StageStatus) -> Iterator[None]:
    down = {(str(status), fence) for status in leaving} - _down
    first = not _down
    _down.update(down)
    with ExitStack() as stack:
        stack.callback(_down.difference_update, down)
        if first:
            stack.enter_context(attribute(StageChanges, "_change", _change))
            stack.enter_context(everywhere(guarded.change_guarded, _per_row))
        yield


@mutant("an attempt may be written down twice", covers=("no-token-in-completion",))
def attempts_are_not_unique() -> Iterator[None]:
    original = batches._insert

    def insert(using: str, model: Any, rows: Any) -> None:
        if model is StageAttempt:
            made = [StageAttempt(**row) for row in rows]
            StageAttempt.objects.using(using).bulk_create(made, ignore_conflicts=True)
        else:
            original(using, model, rows)

    with attribute(batches, "_insert", insert):
        yield


@mutant("what an attempt leaves is stored without a look at its token", covers=(ATTEMPTS,))
def no_token_in_completion() -> Iterator[None]:
    yield from _without("token", StageStatus.RUNNING)


@mutant("what an attempt leaves is stored whatever the stage's status", covers=(ATTEMPTS,))
def no_status_in_completion() -> Iterator[None]:
    yield from _without("status", StageStatus.RUNNING)


@mutant("a stage is started without a look at its token")
def no_token_in_start() -> Iterator[None]:
    yield from _without("token", StageStatus.PENDING)


@mutant("a stage is started whatever its status", covers=("no-token-in-start",))
def no_status_in_start() -> Iterator[None]:
    yield from _without("status", StageStatus.PENDING)


@mutant("a check's result is stored without a look at its token")
def no_token_in_check() -> Iterator[None]:
    yield from _without("token", StageStatus.SUSPENDED)


@mutant("a suspended stage is changed whatever its status", covers=("no-token-in-check",))
def no_status_in_suspended() -> Iterator[None]:
    yield from _without("status", StageStatus.SUSPENDED)


@mutant("nothing is fenced by tokens, wherever it leaves", covers=(ATTEMPTS,))
def no_tokens() -> Iterator[None]:
    yield from _without("token", *StageStatus)


@mutant(
    "a stage that is put back keeps its token", hidden="its next start gives it one, and until then the status refuses"
)
def no_new_token_when_put_back() -> Iterator[None]:
    original = StageChanges.put_back

    def put_back(self: Any, **columns: Any) -> bool:
        held, self_token = self.token, self.token
        done = bool(original(self, **columns))
        if done:
            StageRun.objects.using(self._state.db).filter(pk=self.pk).update(token=held)
            self.token = self_token
        return done

    with attribute(StageChanges, "put_back", put_back):
        yield


@mutant("a claim gives the token that was given before")
def no_new_token_when_started() -> Iterator[None]:
    original = StageRunQuerySet.start_all

    def start_all(self: Any, rows: Any, **given: Any) -> Any:
        found = original(self, rows, **given)
        for row in found:
            if row.token > 1:
                row.token -= 1
                StageRun.objects.using(self.db).filter(pk=row.pk).update(token=row.token)
        return found

    with attribute(StageRunQuerySet, "start_all", start_all):
        yield


@mutant("what is cancelled keeps its token", hidden="nothing leaves CANCELLED, whatever the token")
def no_new_token_when_cancelled() -> Iterator[None]:
    def cancel(self: Any, now: Any) -> int:
        rows = self.filter(status__in=OPEN_STAGE)
        return int(rows.update(status=StageStatus.CANCELLED, finished_at=now, worker=None))

    with attribute(StageRunQuerySet, "cancel", cancel):
        yield


@mutant("a check that is claimed keeps its token")
def no_new_token_when_checked() -> Iterator[None]:
    def take_checks(self: Any, rows: Any, worker: Any) -> None:
        self.filter(pk__in=[row.pk for row in rows]).update(worker=worker, unknown_since=None)
        for row in rows:
            row.worker = worker

    def check_again(self: Any, *, wake_at: Any, **columns: Any) -> bool:
        return bool(self._change(StageStatus.SUSPENDED, worker=None, wake_at=wake_at, **columns))

    with (
        attribute(SuspendedRows, "take_checks", take_checks),
        attribute(Suspendable, "check_again", check_again),
    ):
        yield


@mutant("a rerun voids no tokens")
def no_new_token_when_superseded() -> Iterator[None]:
    def supersede(self: Any, run: Any, group_number: int, now: Any) -> int:
        rows = self.current().filter(run=run, group_number__gte=group_number)
        return int(rows.update(superseded_at=now, token=F("token")))

    with attribute(StageRunQuerySet, "supersede", supersede):
        yield


@mutant("stages are taken from workers that live")
def leases_are_ignored() -> Iterator[None]:
    with attribute(StageRunQuerySet, "orphaned", lambda self, alive_after: self.held()):
        yield


@mutant("a run's status is written whatever it is", covers=("cancel-reads-first",))
def no_status_of_the_run() -> Iterator[None]:
    loose = batches._CHANGE_RUN.replace("AND (status = %s OR status = %s)", "AND (status = %s OR status = %s OR TRUE)")
    with attribute(batches, "_CHANGE_RUN", loose):
        yield


@mutant("each host goes by its own clock (P15)")
def one_clock_each() -> Iterator[None]:
    original = World.around_statement

    def around_statement(self: Any, execute: Any, *given: Any) -> Any:
        def skewed(*call: Any) -> Any:
            now = START + timedelta(seconds=self.seconds)
            self.database.set_time(now + timedelta(seconds=self.skew()))
            try:
                return execute(*call)
            finally:
                self.database.set_time(now)

        return original(self, skewed, *given)

    with attribute(World, "around_statement", around_statement):
        yield
