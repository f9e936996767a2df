"""Mutants without one of the fences of stage runs and runs: tokens, statuses, leases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import F

from workflow_engine.models import StageRun, guarded
from workflow_engine.models import batch as batches
from workflow_engine.models.stage_changes import StageChanges
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.models.suspensions import Suspendable, SuspendedRows
from workflow_engine.statuses import OPEN_STAGE, StageStatus

from .breaking import attribute, everywhere, mutant

TOKEN, STATUS = "token = %s AND", "AND status = %s"


def _changing(leaving: tuple[str, ...], *, token: bool, status: bool) -> Any:
    """Return ``StageChanges._change`` that checks less for changes that leave these statuses."""
    original = StageChanges._change

    def change(self: Any, left: StageStatus, **columns: Any) -> bool:
        if left not in leaving:
            return bool(original(self, left, **columns))
        rows: Any = StageRun.objects.using(self._state.db).filter(pk=self.pk)
        rows = rows.filter(token=self.token) if token else rows
        rows = rows.filter(status=left) if status else rows
        if not rows.update(**columns):
            return False
        for name, value in columns.items():
            setattr(self, name, value)
        return True

    return change


def _per_row(loose: tuple[str, ...], *, token: bool, status: bool) -> Any:
    """Return ``change_guarded`` that checks less for these statuses (as it is done on SQLite)."""

    def make(original: Any) -> Any:
        def change(using: str, rows: Any, *, leaving: str, **given: Any) -> Any:
            if leaving not in loose:
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

    return make


def _loose(leaving: tuple[str, ...], *, token: bool = True, status: bool = True) -> Iterator[None]:
    with (
        attribute(StageChanges, "_change", _changing(leaving, token=token, status=status)),
        everywhere(guarded.change_guarded, _per_row(leaving, token=token, status=status)),
    ):
        yield


@mutant("what an attempt leaves is stored without a look at its token", fence=True)
def no_token_in_completion() -> Iterator[None]:
    yield from _loose((StageStatus.RUNNING,), token=False)


@mutant("what an attempt leaves is stored whatever the stage's status", covered="the token", fence=True)
def no_status_in_completion() -> Iterator[None]:
    yield from _loose((StageStatus.RUNNING,), status=False)


@mutant("a stage is started without a look at its token", covered="its status", fence=True)
def no_token_in_start() -> Iterator[None]:
    yield from _loose((StageStatus.PENDING,), token=False)


@mutant("a stage is started whatever its status", covered="its token", fence=True)
def no_status_in_start() -> Iterator[None]:
    yield from _loose((StageStatus.PENDING,), status=False)


@mutant("a check's result is stored without a look at its token", fence=True)
def no_token_in_check() -> Iterator[None]:
    yield from _loose((StageStatus.SUSPENDED,), token=False)


@mutant("a suspended stage is changed whatever its status", fence=True)
def no_status_in_suspended() -> Iterator[None]:
    yield from _loose((StageStatus.SUSPENDED,), status=False)


@mutant("nothing is fenced by tokens, wherever it leaves", fence=True)
def no_tokens() -> Iterator[None]:
    yield from _loose(tuple(StageStatus), token=False)


@mutant("a stage that is put back keeps its token", fence=True)
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


@mutant("a claim gives the token that was given before", fence=True)
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


@mutant("what is cancelled keeps its token", covered="its status", fence=True)
def no_new_token_when_cancelled() -> Iterator[None]:
    def cancel(self: Any, now: Any) -> int:
        rows = self.filter(status__in=OPEN_STAGE)
        return int(rows.update(status=StageStatus.CANCELLED, finished_at=now, worker=None))

    with attribute(StageRunQuerySet, "cancel", cancel):
        yield


@mutant("a check that is claimed keeps its token", fence=True)
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


@mutant("a rerun voids no tokens", covered="the statuses, as only ended runs are rerun", fence=True)
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


@mutant("a run's status is written whatever it is", covered="the status read under the run's lock", fence=True)
def no_status_of_the_run() -> Iterator[None]:
    loose = batches._CHANGE_RUN.replace("AND (status = %s OR status = %s)", "AND (status = %s OR status = %s OR TRUE)")
    with attribute(batches, "_CHANGE_RUN", loose):
        yield
