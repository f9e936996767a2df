"""``Prune`` of blobs: what no row refers to goes, and nothing that somebody may still write down."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from tests.invariants import check_all
from tests.workflows import chain
from workflow_engine import Retry, StageContext, create_run, define_workflow, rerun_from, stage
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.blobs.storage import StorageBlobStore
from workflow_engine.bootstrap import use_kernel
from workflow_engine.errors import InvalidInput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.pruner import Pruner, rules
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Prune, PruneResult
from workflow_engine.models import IdempotencyKey, StageMemo, StageRun, WorkflowArtifact, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LARGE = "x" * 100_000


@stage("write", retry=Retry(max_attempts=2, initial=timedelta(seconds=1)))
def write(ctx: StageContext[str]) -> str:
    ctx.artifact("page.txt", f"of attempt {ctx.attempt}")
    ctx.storage.save("page", ctx.input)
    ctx.once("large", lambda: LARGE)
    if ctx.attempt == 1:
        raise ValueError("on purpose")
    return ctx.input + LARGE


@stage("read")
def read(ctx: StageContext[str]) -> list[str]:
    return [ctx.input] * 3


@stage("each")
def each(ctx: StageContext[str]) -> str:
    return ctx.input


@stage("last")
def last(ctx: StageContext[list[str]]) -> int:
    return len(ctx.input)


class Store(InMemoryBlobStore):
    """Refuses what ``refuses`` says, and calls ``listed`` whenever it was listed."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[str], bool] = lambda folder: False
        self.listed: Callable[[], Any] = lambda: None
        self.lists = 0

    def list(self, prefix: str) -> list[str]:
        self._check(prefix)
        found = super().list(prefix)
        self.listed()
        return found

    def folders(self, folder: str) -> list[str]:
        self._check(folder)
        self.lists += 1
        return super().folders(folder)

    def delete_folder(self, folder: str) -> int:
        self._check(folder)
        return super().delete_folder(folder)

    def _check(self, folder: str) -> None:
        if self.refuses(folder):
            raise ConnectionError("the store is away")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def kernel(clock: FakeClock, store: Store, known: Callable[..., Any]) -> Iterator[Kernel]:
    known(define_workflow("writing", input=str).pipe(write).pipe(read).map(each).pipe(last).build(), chain(1))
    with use_kernel(create_test_kernel(clock=clock, blobs=store)) as kernel:
        yield kernel


def prune(kernel: Kernel, **given: Any) -> PruneResult:
    return kernel.dispatch(Prune(what="blobs", **{"older_than": DAY, **given}))


def made_at(when: datetime, number: int = 0) -> uuid.UUID:
    """Return an id as a run gets it that is made then."""
    return uuid.UUID(int=int(when.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | number)


def written(host: InlineHost, clock: FakeClock) -> WorkflowRun:
    """Return a run that has ended, of which one attempt has failed after it had stored an artifact."""
    run = create_run("writing", LARGE)
    host.drain(run.pk)
    clock.advance(timedelta(seconds=2))
    host.drain(run.pk)
    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error
    return run


def test_what_a_lost_attempt_has_left_goes_and_what_rows_refer_to_stays(
    kernel: Kernel, host: InlineHost, clock: FakeClock, store: Store
) -> None:
    run = written(host, clock)
    (first,) = [key for key in store.list("") if store.get(key) == b"of attempt 1"]
    before = store.list("")
    clock.advance(2 * DAY)

    assert prune(kernel).deleted == 1

    assert set(before) - set(store.list("")) == {first}
    assert run.get_input() == LARGE
    assert WorkflowArtifact.objects.get().read() == b"of attempt 2"
    assert StageMemo.objects.get().get_value() == LARGE
    assert [row.get_output() for row in StageRun.objects.filter(map_index__gte=0)] == [LARGE * 2] * 3
    assert [key for key in store.list("") if ".storage/" in key]
    rerun_from(run, "read")
    host.drain()
    run.refresh_from_db()
    assert run.get_output() == 3
    check_all()


@pytest.mark.parametrize("age", [timedelta(0), DAY - HOUR])
def test_a_run_that_has_just_ended_is_left_alone(
    kernel: Kernel, host: InlineHost, clock: FakeClock, age: timedelta
) -> None:
    written(host, clock)
    clock.advance(age)

    assert prune(kernel).deleted == 0


def test_a_run_that_goes_on_is_left_alone_however_old_it_is(kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    run = create_run("writing", LARGE)
    host.drain(run.pk)
    clock.advance(50 * DAY)

    assert prune(kernel).deleted == 0
    host.drain(run.pk)

    run.refresh_from_db()
    assert run.get_output() == 3


def test_a_run_that_is_rerun_while_its_blobs_are_listed_is_left_alone(
    kernel: Kernel, host: InlineHost, clock: FakeClock, store: Store
) -> None:
    run = written(host, clock)
    clock.advance(2 * DAY)
    before = len(store.list(""))
    store.listed = lambda: rerun_from(run, "read")

    assert prune(kernel).deleted == 0

    store.listed = lambda: None
    assert len(store.list("")) == before


def test_of_runs_that_are_not_there_everything_goes_but_what_is_young(
    kernel: Kernel, clock: FakeClock, store: Store
) -> None:
    old, young = made_at(clock.now() - 2 * DAY), made_at(clock.now() - DAY + HOUR)
    for run_id in (old, young):
        store.put(f"runs/{run_id}/input/1.json", b"{}")
        store.put(f"runs/{run_id}/a/0.storage/page", b"{}")

    assert prune(kernel).deleted == 2

    assert store.folders("runs") == [str(young)]


def test_what_is_not_ours_stays(kernel: Kernel, clock: FakeClock, store: Store) -> None:
    names = ["notes", str(uuid.uuid4()), str(made_at(clock.now() - 9 * DAY)).upper()]
    for name in names:
        store.put(f"runs/{name}/file", b"")
    store.put("photos/1.png", b"")

    assert prune(kernel).deleted == 0
    assert len(store.list("")) == 4


def test_a_dry_run_counts_and_deletes_nothing(kernel: Kernel, host: InlineHost, clock: FakeClock, store: Store) -> None:
    written(host, clock)
    store.put(f"runs/{made_at(clock.now() - DAY)}/file", b"")
    clock.advance(2 * DAY)
    before = store.list("")

    assert prune(kernel, dry_run=True).deleted == 2
    assert store.list("") == before


def test_page_by_page_everything_goes_and_the_storage_is_listed_once(
    kernel: Kernel, clock: FakeClock, store: Store
) -> None:
    for number in range(5):
        store.put(f"runs/{made_at(clock.now() - 2 * DAY, number)}/file", b"")
    command, deleted = Prune(what="blobs", older_than=DAY, max=2), []

    while True:
        result = kernel.dispatch(command)
        deleted.append(result.deleted)
        if result.place is None:
            break
        command = Prune(what="blobs", older_than=DAY, max=2, after=result.place)

    assert deleted == [2, 2, 1]
    assert (store.lists, store.list("")) == (1, [])


def test_a_folder_that_the_storage_refuses_holds_up_no_other(kernel: Kernel, clock: FakeClock, store: Store) -> None:
    ids = [made_at(clock.now() - 2 * DAY, number) for number in range(5)]
    for run_id in ids:
        store.put(f"runs/{run_id}/file", b"")
    store.refuses = lambda folder: folder in (f"runs/{ids[0]}", f"runs/{ids[3]}")

    result = prune(kernel)

    assert (result.deleted, result.kept, result.place) == (3, 2, None)
    assert result.refusal == f"runs/{ids[0]}: ConnectionError: the store is away"


@pytest.mark.parametrize(("away", "kept"), [("runs", 1), ("runs/", 3)])
def test_a_storage_that_is_away_ends_the_pass_and_fails_nothing_else(
    kernel: Kernel,
    clock: FakeClock,
    store: Store,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    away: str,
    kept: int,
) -> None:
    settings.WORKFLOW_ENGINE = {"RETENTION": {"blobs": 1}}
    for number in range(9):
        store.put(f"runs/{made_at(clock.now() - 2 * DAY, number)}/file", b"")
    store.refuses = lambda folder: folder.startswith(away)
    pruner = Pruner(kernel, batch=100)
    pruner.step()

    while pruner.step() < 3600:
        pass

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"old blobs cannot be deleted count={kept} one=")
    store.refuses = lambda folder: False
    assert prune(kernel).deleted == 9


def test_of_the_daily_passes_of_many_processes_one_is_made(kernel: Kernel, clock: FakeClock, store: Store) -> None:
    assert prune(kernel, once="2026-01-01").kept == 0
    store.put(f"runs/{made_at(clock.now() - 2 * DAY)}/file", b"")

    assert prune(kernel, once="2026-01-01").deleted == 0
    assert prune(kernel, once="2026-01-02").deleted == 1

    assert store.lists == 2
    clock.advance(8 * DAY)
    kernel.dispatch(Prune(what="keys", older_than=7 * DAY))
    assert not IdempotencyKey.objects.exists()


def test_an_hour_is_the_least_age_of_blobs(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput, match="older_than: must be an hour or more of blobs, got 0:59:00"):
        prune(kernel, older_than=timedelta(minutes=59))


@pytest.mark.parametrize(("days", "hours"), [(2, [48]), (0.001, [1]), (None, [])])
def test_the_setting_says_after_how_many_days_an_hour_at_least(
    settings: Any, days: float | None, hours: list[int]
) -> None:
    settings.WORKFLOW_ENGINE = {"RETENTION": {"blobs": days}}

    found = [rule.older_than / HOUR for rule in rules() if rule.what == "blobs"]

    assert found == hours


def test_of_files_no_folder_is_left(clock: FakeClock, tmp_path: Path) -> None:
    files = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    with override_settings(STORAGES={"files": files}):
        store = StorageBlobStore("files")
        with use_kernel(create_test_kernel(clock=clock, blobs=store)) as kernel:
            store.put(f"runs/{made_at(clock.now() - 2 * DAY)}/a/0.1/output.json", b"{}")

            assert prune(kernel).deleted == 1

    assert [path.name for path in tmp_path.rglob("*")] == ["workflow_engine", "runs"]
