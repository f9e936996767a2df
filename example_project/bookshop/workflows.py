"""The workflow `nightly-import`, which starts a run of `shelf-list` for each language.

    read-delivery ── import-row ── sort-out ── shelve ── sum-up
                     (per row)              (per language)
                                                 └── take-stock ── write-list

Each row and each language has its own attempts, log and result: a row that is wrong costs nobody anything else, and a
worker that dies among thousands of rows costs those alone that it had in hand. A schedule of the same name starts an
import every night.
"""

from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from django.utils import timezone

from workflow_engine import Limit, StageContext, Trigger, create_run, declare_schedule, define_workflow, register, stage
from workflow_engine.models import WorkflowRun

from .delivery import SAMPLE, entry_of, rejected_csv, row_at, rows_of
from .models import Book
from .schemas import Delivery, DeliveryFile, Imported, Row, Shelf, ShelfList, Stock, Summary


@stage("read-delivery", description="Read the rows of the file", timeout=timedelta(minutes=1))
def read_delivery(ctx: StageContext[DeliveryFile]) -> Delivery:
    return Delivery(path=ctx.input.path, rows=list(rows_of(ctx.input.path)))


@stage("import-row", description="Write the book of one row", timeout=timedelta(seconds=30))
def import_row(ctx: StageContext[Row]) -> Imported:
    row = ctx.input
    if ctx.generation:
        # A rerun: somebody may have mended the file, so what its line says now counts.
        row = row_at(ctx.require(read_delivery).path, row.line)
    book = entry_of(row).model_dump()
    # If the worker dies before the result is stored, another one does this again: the same book is no second one.
    Book.objects.update_or_create(
        title=book.pop("title"), author=book.pop("author"), defaults={**book, "imported_at": ctx.now()}
    )
    return Imported(language=book["language"])


@stage("sort-out", description="List the rows that were rejected, and the shelves that got books")
def sort_out(ctx: StageContext[None]) -> list[Shelf]:
    # Results are read page by page: thousands of rows are never in memory together.
    imported = ctx.items(import_row)
    languages = {book.language for book in imported.outputs()}
    if imported.failed:
        rejected = ((error.message, row) for row, error in imported.failures())
        ctx.artifact("rejected.csv", rejected_csv(rejected))
    return [Shelf(language=language) for language in sorted(languages)]


@stage("shelve", description="Have one shelf listed by a run of its own")
def shelve(ctx: StageContext[Shelf]) -> ShelfList:
    # The first call ends the attempt. Once the child run has ended the body runs again, and the call returns.
    return ctx.run_child(shelf_list, ctx.input)


@stage("sum-up", description="Say what the night has brought")
def sum_up(ctx: StageContext[list[ShelfList]]) -> Summary:
    rows = ctx.items(import_row)
    return Summary(
        imported=rows.total - rows.failed,
        rejected=rows.failed,
        titles={shelf.language: shelf.titles for shelf in ctx.input},
        value=sum((shelf.value for shelf in ctx.input), Decimal(0)),
    )


@stage("take-stock", description="Count what stands on the shelf")
def take_stock(ctx: StageContext[Shelf]) -> Stock:
    books = list(Book.objects.filter(language=ctx.input.language).only("price", "copies"))
    return Stock(
        language=ctx.input.language,
        titles=len(books),
        copies=sum(book.copies for book in books),
        value=sum((book.price * book.copies for book in books), Decimal(0)),
    )


@stage("write-list", description="Write the list that hangs at the shelf")
def write_list(ctx: StageContext[Stock]) -> ShelfList:
    shelf = ctx.input
    books = Book.objects.filter(language=shelf.language).order_by("author", "title")
    lines = [f"{shelf.language}: {shelf.titles} titles, {shelf.copies} copies, worth {shelf.value}", ""]
    lines += [f"{book.price:>7}  {book.copies:>3} x  {book.author}: {book.title} ({book.year})" for book in books]
    name = f"shelf-{shelf.language.lower()}.txt"
    ctx.artifact(name, "\n".join(lines) + "\n")
    return ShelfList(**shelf.model_dump(), artifact=name)


nightly_import = register(
    define_workflow(
        "nightly-import",
        name="Nightly import",
        description="Import the books of a file row by row, and list the shelves that got some",
        input=DeliveryFile,
        version="1",
        timeout=timedelta(hours=6),
    )
    .pipe(read_delivery)
    .map(import_row, over=lambda delivery: delivery.rows, on_item_error="collect", min_success=0.9, max_parallel=20)
    .pipe(sort_out)
    .map(shelve, max_parallel=3)
    .pipe(sum_up)
    .build()
)

shelf_list = register(
    define_workflow(
        "shelf-list",
        name="Shelf list",
        description="Count the books of one language and list them",
        input=Shelf,
        version="1",
        # However many deliveries come in one night: a shelf is counted by one run at a time.
        concurrency=Limit(1, key=lambda shelf: shelf.language),
    )
    .pipe(take_stock)
    .pipe(write_list)
    .build()
)

# A row of the schedules once `manage.py wfe_schedules sync` has been called, which belongs to every deploy. On the
# night on which 2:30 does not exist the import comes at 3:00; on the night that has it twice it comes once.
declare_schedule(
    "nightly-import",
    nightly_import,
    "30 2 * * *",
    timezone="Europe/Berlin",
    input=DeliveryFile(path=str(SAMPLE)),
    # Tomorrow's import waits for tonight's; and what was missed while no worker was there is imported once.
    overlap="queue",
    catch_up="one",
)


def start_import(file: Path, *, source: str) -> WorkflowRun:
    """Start the import of a file. The same file again on the same day gives the same run."""
    path = str(file.resolve())
    # A digest, since a path may be longer than a key.
    key = f"nightly-import {timezone.localdate()} {sha256(path.encode()).hexdigest()}"
    return create_run(nightly_import, {"path": path}, idempotency_key=key, annotations={Trigger.SOURCE: source})
