"""What cron calls, what the admin shows, and what the demo shows of an import."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.urls import reverse

from example_project.bookshop.models import Book
from example_project.bookshop.walkthrough import walk_through
from example_project.bookshop.workflows import nightly_import, shelf_list
from workflow_engine import ids
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FireSchedules
from workflow_engine.models import WorkflowRun
from workflow_engine.scheduling import sync_schedules
from workflow_engine.testing import FakeClock, registry_override

from .deliveries import GOOD, IMPORTED, TITLES, delivery_of

EVENING, NEXT_DAY = "2030-01-04T22:00Z", "2030-01-05T22:00Z"


@pytest.fixture(autouse=True)
def back_from_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids never go back: let those of later tests not go on from the days that these tests travel to."""
    monkeypatch.setattr(ids, "_last", ids._last)


@pytest.fixture
def registered(known: Any, host: InlineHost) -> InlineHost:
    known(nightly_import, shelf_list)
    return host


def import_books(*arguments: str) -> str:
    out = StringIO()
    call_command("import_books", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_a_second_call_in_the_same_night_changes_nothing(registered: InlineHost, tmp_path: Path) -> None:
    file = str(delivery_of(tmp_path, GOOD))
    with time_machine.travel(EVENING, tick=False):
        first = import_books(file)
        registered.drain()
        second = import_books(file)
        registered.drain()

    run = WorkflowRun.objects.get(workflow="nightly-import")
    assert first == f"Run {run.pk} imports {file}.\n"
    assert second == f"Run {run.pk} of today is for {file} already, and is COMPLETED. Nothing was started.\n"
    assert run.annotations.get(key="trigger.source").value == "import_books"
    assert Book.objects.count() == 1


@pytest.mark.django_db
def test_another_day_and_another_file_are_other_runs(registered: InlineHost, tmp_path: Path) -> None:
    file = delivery_of(tmp_path, GOOD)
    other = file.rename(tmp_path / "other.csv")
    delivery_of(tmp_path, GOOD)
    for day, path in ((EVENING, file), (EVENING, other), (NEXT_DAY, file)):
        with time_machine.travel(day, tick=False):
            assert "imports" in import_books(str(path))

    assert WorkflowRun.objects.count() == 3


@pytest.mark.django_db
def test_the_same_file_by_another_path_is_the_same_run(
    registered: InlineHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = delivery_of(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    with time_machine.travel(EVENING, tick=False):
        import_books(str(file))
        import_books(file.name)

    assert WorkflowRun.objects.get().get_input() == {"path": str(file.resolve())}


@pytest.mark.django_db
def test_a_file_that_has_not_come_yet_is_imported_when_it_has(registered: InlineHost, tmp_path: Path) -> None:
    with time_machine.travel(EVENING, tick=False):
        with pytest.raises(CommandError, match=r"There is no file '.*small\.csv'.*Nothing was started\."):
            import_books(str(tmp_path / "small.csv"))
        file = delivery_of(tmp_path, GOOD)
        import_books(str(file))
        registered.drain()

    assert Book.objects.get().title == "Ulysses"


@pytest.mark.django_db
def test_a_run_that_has_failed_today_is_told_how_to_go_on(registered: InlineHost, tmp_path: Path) -> None:
    file = tmp_path / "page.csv"
    file.write_text("<html>")
    with time_machine.travel(EVENING, tick=False):
        import_books(str(file))
        registered.drain()
        said = import_books(str(file))
    file.write_text(delivery_of(tmp_path, GOOD).read_text())

    command = said.splitlines()[-1].partition("manage.py ")[2].split()
    call_command(*command, stdout=StringIO())
    registered.drain()

    assert WorkflowRun.objects.get(workflow="nightly-import").status == "COMPLETED"
    assert Book.objects.get().title == "Ulysses"


@pytest.mark.django_db
def test_books_can_be_looked_at_and_not_changed(admin_client: Any) -> None:
    book = Book.objects.create(
        title="Kim", author="Kipling", language="English", year=1901, price=8, copies=1, imported_at=NEXT_DAY
    )

    listed = admin_client.get(reverse("admin:bookshop_book_changelist")).content.decode()
    page = admin_client.get(reverse("admin:bookshop_book_change", args=[book.pk])).content.decode()

    assert "Kim" in listed
    assert 'name="_save"' not in page
    assert admin_client.get(reverse("admin:bookshop_book_add")).status_code == 403


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_demo_shows_rows_shelves_and_what_was_rejected(tmp_path: Path) -> None:
    lines: list[str] = []

    with registry_override(nightly_import, shelf_list):
        walk_through(lines.append, tmp_path)

    told = [re.sub(r"^\d\d:\d\d:\d\d +", "", line) for line in lines]
    assert f"import-row     completed, {IMPORTED} of 160 items done, 5 failed" in told
    assert "shelve         completed, 6 of 6 items done" in told
    ended = {found.group(1) for line in told if (found := re.match(r"shelf-list +(\w+): completed", line))}
    assert ended == set(TITLES)
    counts = f"{IMPORTED} books imported, 5 rows rejected"
    assert f"The run is COMPLETED: {counts}. What is on the shelves is worth 9133.90." in told
    assert "  Line 98: price is 'ask', not a price such as 9.90" in told
    run = WorkflowRun.objects.get(workflow="nightly-import")
    assert f'rerun_from("{run.pk}", "import-row", only_failed_items=True)' in told[-1]
    written = {file.name for file in tmp_path.iterdir()}
    assert written >= {"delivery.csv", "rejected.csv", "shelf-german.txt", "shelf-portuguese.txt"}
    assert len(written) == 8


@pytest.mark.django_db
def test_the_schedule_in_the_code_imports_once_a_night(
    registered: InlineHost, kernel: Kernel, clock: FakeClock
) -> None:
    synced = sync_schedules()
    assert [(one.name, one.action) for one in synced] == [("nightly-import", "created")]
    # The night on which the clocks go forward in Berlin: there is no 2:30.
    clock.move_to(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))

    assert kernel.dispatch(FireSchedules()).fired == 1

    registered.drain()
    run = WorkflowRun.objects.get(workflow="nightly-import")
    assert run.metadata["schedule"]["name"] == "nightly-import"
    assert run.status == "COMPLETED"
    assert Book.objects.count() == IMPORTED
