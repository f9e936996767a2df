"""The nightly import as a whole: rows, shelves, rejected rows, files that are none, and reruns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from example_project.bookshop.delivery import SAMPLE
from example_project.bookshop.models import Book
from example_project.bookshop.schemas import Imported, Row, Shelf, ShelfList, Summary
from example_project.bookshop.workflows import import_row, nightly_import, shelf_list, shelve, sort_out
from tests.invariants import check_all
from workflow_engine import ItemError, create_run, rerun_from
from workflow_engine.definitions.results import StageSuspended
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageAttempt, WorkflowArtifact, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow, stage_context

from .deliveries import GOOD, IMPORTED, MENDED, REJECTED, TITLES, delivery_of, mend, sample_in

pytestmark = pytest.mark.django_db


def rejected(run_id: Any) -> dict[str, str]:
    """Return title -> problem of the rejected rows, as the file that counts says."""
    artifacts = WorkflowArtifact.objects.filter(run=run_id, name="rejected.csv", stage_run__superseded_at=None)
    text = "".join(artifact.read().decode() for artifact in artifacts)
    return {row["title"]: row["problem"] for row in csv.DictReader(io.StringIO(text, newline=""))}


def attempts_of_rows() -> Counter[int]:
    """Return generation -> how many attempts were made at rows."""
    attempts = StageAttempt.objects.filter(stage="import-row", stage_run__map_index__gte=0)
    return Counter(attempts.values_list("generation", flat=True))


def test_a_delivery_is_imported_row_by_row_and_every_shelf_is_listed_by_a_run_of_its_own() -> None:
    result = run_workflow(nightly_import, {"path": str(SAMPLE)})

    assert result.status == "COMPLETED", result.error
    value = sum((book.price * book.copies for book in Book.objects.all()), Decimal(0))
    assert result.output == Summary(imported=IMPORTED, rejected=REJECTED, titles=TITLES, value=value)
    assert Counter(Book.objects.values_list("language", flat=True)) == TITLES
    moby = Book.objects.get(title="Moby-Dick")
    assert (moby.author, moby.year, moby.language) == ("Herman Melville", 1851, "English")
    children = WorkflowRun.objects.filter(parent_run=result.run_id).select_related("data")
    assert sorted(child.get_input()["language"] for child in children) == list(TITLES)
    assert {(child.workflow, child.status) for child in children} == {("shelf-list", "COMPLETED")}
    check_all()


def test_the_rejected_rows_are_named_with_what_would_be_right() -> None:
    result = run_workflow(nightly_import, {"path": str(SAMPLE)})

    assert rejected(result.run_id) == {
        "I Malavoglia": "Line 2: copies is 'two', not a number such as 3",
        "Demian": "Line 90: year is '', not a year such as 1897",
        "Os Maias": "Line 91: language is '', not a language such as German",
        "Dracula": "Line 98: price is 'ask', not a price such as 9.90",
        "Candide": "Line 145 has 7 cells instead of 6; a comma inside a cell needs quotation marks around the cell",
    }
    # A row that is wrong is not tried again.
    assert attempts_of_rows() == {0: IMPORTED + REJECTED}
    assert not Book.objects.filter(title__in=rejected(result.run_id)).exists()


def test_a_shelf_list_names_the_books_of_its_language(tmp_path: Path) -> None:
    file = delivery_of(
        tmp_path, GOOD, "Nada,Carmen Laforet,1945,Spanish,9.50,3", "Kim,Rudyard Kipling,1901,English,8,1"
    )

    result = run_workflow(nightly_import, {"path": str(file)})

    assert result.status == "COMPLETED", result.error
    lists = {item.name: item.read().decode() for item in WorkflowArtifact.objects.all()}
    assert set(lists) == {"shelf-english.txt", "shelf-spanish.txt"}
    assert lists["shelf-english.txt"] == (
        "English: 2 titles, 3 copies, worth 44.00\n"
        "\n"
        "  18.00    2 x  James Joyce: Ulysses (1922)\n"
        "   8.00    1 x  Rudyard Kipling: Kim (1901)\n"
    )


def test_the_same_file_again_changes_no_book_but_its_time(tmp_path: Path) -> None:
    file = delivery_of(tmp_path, GOOD)
    run_workflow(nightly_import, {"path": str(file)})
    before = Book.objects.values("pk", "title", "price", "copies").get()

    result = run_workflow(nightly_import, {"path": str(file)})

    assert result.status == "COMPLETED"
    assert Book.objects.values("pk", "title", "price", "copies").get() == before


def test_a_new_price_replaces_the_old_one(tmp_path: Path) -> None:
    run_workflow(nightly_import, {"path": str(delivery_of(tmp_path, GOOD))})

    run_workflow(nightly_import, {"path": str(delivery_of(tmp_path, GOOD.replace("18.00,2", "15.50,7")))})

    assert Book.objects.values_list("title", "price", "copies").get() == ("Ulysses", Decimal("15.50"), 7)


def test_a_delivery_of_nothing_lists_no_shelf(tmp_path: Path) -> None:
    result = run_workflow(nightly_import, {"path": str(delivery_of(tmp_path))})

    assert result.output == Summary(imported=0, rejected=0, titles={}, value=Decimal(0))
    assert WorkflowRun.objects.count() == 1


def test_too_many_wrong_rows_fail_the_night_and_keep_what_is_right(tmp_path: Path) -> None:
    file = delivery_of(tmp_path, GOOD, "Kim,Rudyard Kipling,1901,English,?,1")

    result = run_workflow(nightly_import, {"path": str(file)})

    assert result.status == "FAILED"
    assert result.error is not None
    assert (result.error["code"], result.error["stage"]) == ("TOO_FEW_SUCCEEDED", "import-row")
    assert "Line 3: price is '?', not a price such as 9.90" in result.error["message"]
    assert Book.objects.get().title == "Ulysses"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.csv", None, "it cannot be opened, No such file or directory"),
        ("empty.csv", b"", "its first line is ''"),
        ("excel.csv", b"title;author;year\nKim;Kipling;1901\n", "its first line is 'title;author;year'"),
        ("page.csv", b"<html>\n<p>Not today</p>\n", "its first line is '<html>'"),
        ("photo.csv", b"\xff\xd8\xff\xe0\x00\x10JFIF", "it is no text in UTF-8"),
        (
            "cut.csv",
            b'title,author,year,language,price,copies\n"Kim,Rudyard',
            "line 2 is no CSV, unexpected end of data",
        ),
    ],
)
def test_a_file_that_is_no_delivery_fails_at_once_and_says_what_would_be_right(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)

    result = run_workflow(nightly_import, {"path": str(file)})

    assert result.error is not None
    assert (result.error["class"], result.error["stage"]) == ("UnusableDelivery", "read-delivery")
    assert result.error["message"] == (
        f"Cannot import {str(file)!r}: {why}. It should be a CSV file in UTF-8 whose first line is "
        "title,author,year,language,price,copies"
    )
    assert StageAttempt.objects.count() == 1
    assert not Book.objects.exists()


def test_a_folder_is_no_delivery(tmp_path: Path) -> None:
    result = run_workflow(nightly_import, {"path": str(tmp_path)})

    assert result.error is not None
    assert (result.error["class"], str(tmp_path) in result.error["message"]) == ("UnusableDelivery", True)


def test_after_mending_the_file_only_the_rejected_rows_run_again(
    known: Any, host: InlineHost, clock: FakeClock, tmp_path: Path
) -> None:
    file = sample_in(tmp_path)
    run = create_run(known(nightly_import, shelf_list), {"path": str(file)})
    host.drain()
    times = dict(Book.objects.values_list("pk", "imported_at"))
    mend(file)
    clock.advance(timedelta(minutes=5))

    rerun_from(run, "import-row", only_failed_items=True)
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error
    summary = Summary.model_validate(run.get_output())
    assert (summary.imported, summary.rejected) == (IMPORTED + REJECTED, 0)
    assert Book.objects.get(title="Candide").price == Decimal("16.90")
    assert attempts_of_rows() == {0: IMPORTED + REJECTED, 1: REJECTED}
    assert dict(Book.objects.filter(pk__in=times).values_list("pk", "imported_at")) == times
    assert rejected(run.pk) == {}
    check_all()


def test_rows_that_are_still_wrong_stay_rejected(known: Any, host: InlineHost, tmp_path: Path) -> None:
    file = sample_in(tmp_path)
    run = create_run(known(nightly_import, shelf_list), {"path": str(file)})
    host.drain()
    mend(file, list(MENDED)[:3])

    rerun_from(run, "import-row", only_failed_items=True)
    host.drain()

    run.refresh_from_db()
    summary = Summary.model_validate(run.get_output())
    assert (summary.imported, summary.rejected) == (IMPORTED + 3, 2)
    assert set(rejected(run.pk)) == {"Dracula", "Candide"}
    check_all()


def test_a_row_that_is_no_longer_there_stays_rejected(known: Any, host: InlineHost, tmp_path: Path) -> None:
    wrong = "Kim,Rudyard Kipling,1901,English,?,1"
    good = [GOOD.replace("Ulysses", f"Ulysses {number}") for number in range(9)]
    file = delivery_of(tmp_path, *good, wrong)
    run = create_run(known(nightly_import, shelf_list), {"path": str(file)})
    host.drain()
    file.write_text(file.read_text().replace(wrong, ""))

    rerun_from(run, "import-row", only_failed_items=True)
    host.drain()

    assert rejected(run.pk) == {"Kim": f"Line 11 is no longer in {str(file)!r}"}


def test_a_shelf_waits_for_its_run_and_gives_what_that_gave() -> None:
    listed = ShelfList(language="German", titles=1, copies=2, value=Decimal(3), artifact="shelf-german.txt")

    with pytest.raises(StageSuspended):
        shelve(stage_context(shelve, Shelf(language="German")))
    assert shelve(stage_context(shelve, Shelf(language="German"), children={"shelf-list": listed})) == listed


def test_the_shelves_that_got_books_come_in_order_each_once() -> None:
    languages = ("Spanish", "German", "Spanish")
    ctx = stage_context(sort_out, outputs={import_row: [Imported(language=language) for language in languages]})

    assert sort_out(ctx) == [Shelf(language="German"), Shelf(language="Spanish")]
    assert ctx.desk.artifacts == {}


def test_the_rejected_rows_are_written_as_they_came() -> None:
    error = ItemError(item=1, code="STAGE_FAILED", message="Line 3: no, never")
    rows = [Row(line=2, cells=["a"]), Row(line=3, cells=["b", 'say "c"'])]
    outputs = {import_row: [Imported(language="German"), error]}
    ctx = stage_context(sort_out, outputs=outputs, item_inputs={import_row: rows})

    sort_out(ctx)

    assert list(csv.reader(io.StringIO(ctx.desk.artifacts["rejected.csv"], newline="")))[1:] == [
        ["Line 3: no, never", "b", 'say "c"']
    ]
