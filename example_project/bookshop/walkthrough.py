"""Show one import in a terminal, row by row and shelf by shelf, and what became of the rows that are wrong."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from workflow_engine import Trigger, run_and_wait
from workflow_engine.hosts.wait import RunSnapshot
from workflow_engine.models import WorkflowArtifact, WorkflowRun

from .delivery import SAMPLE
from .workflows import import_row, nightly_import, shelf_list, shelve

Say = Callable[[str], None]


def walk_through(say: Say, folder: Path) -> None:
    """Import a copy of the sample in `folder`, where the files that come out go too. Takes about two seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SAMPLE.name
    shutil.copyfile(SAMPLE, file)
    say("\nNext: a delivery of books. Each row is imported by itself, then each shelf is listed by a run of its own.\n")
    result = run_and_wait(
        nightly_import,
        {"path": str(file)},
        annotations={Trigger.SOURCE: "demo"},
        on_change=Reader(say).change,
        timeout=60,
    )
    if result.output is None:
        say(f"The run is {result.status}: {(result.error or {}).get('message', '')}")
        return
    found = result.output
    counts = f"{found.imported} books imported, {found.rejected} rows rejected"
    say(f"The run is {result.status}: {counts}. What is on the shelves is worth {found.value}.")
    _copy_artifacts(result.run_id, folder)
    _explain(say, result.run_id, folder)


def _copy_artifacts(run_id: UUID, folder: Path) -> None:
    """Copy what the run and those that it has started have written."""
    for artifact in WorkflowArtifact.objects.filter(Q(run=run_id) | Q(run__root_run=run_id)):
        (folder / artifact.name).write_bytes(artifact.read())


def _explain(say: Say, run_id: UUID, folder: Path) -> None:
    say(f"\nThe shelf lists:    {folder / 'shelf-*.txt'}")
    say(f"The rejected rows:  {folder / 'rejected.csv'}")
    with (folder / "rejected.csv").open(encoding="utf-8", newline="") as rejected:
        for row in csv.DictReader(rejected):
            say(f"  {row['problem']}")
    say(
        f"Mend them where they stand in {folder / SAMPLE.name}, then import those rows alone, in manage.py shell:\n"
        "  from workflow_engine import rerun_from\n"
        f'  rerun_from("{run_id}", "{import_row.id}", only_failed_items=True)\n'
        "A worker does it: manage.py wfe_worker. What starts it every night: manage.py wfe_schedules sync"
    )


class Reader:
    """Says what happens to the stages, their items and the child runs, one line each."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[tuple[str, str]] = set()

    def change(self, seen: RunSnapshot) -> None:
        for stage in seen.stages:
            ended = stage.status.lower() if stage.status in ("COMPLETED", "FAILED") else ""
            items = (stage.progress or {}).get("items")
            if stage.stage_id == shelve.id:
                self._tell_children(seen)
            if items is not None:
                self._tell_items(stage.stage_id, items, ended)
            elif ended:
                self._tell(stage.stage_id, ended, ended)

    def _tell_items(self, stage_id: str, items: dict[str, int], ended: str) -> None:
        counts = f"{items['done']} of {items['total']} items done"
        counts += f", {items['failed']} failed" if items["failed"] else ""
        # Ten lines are enough, however many items there are.
        tenths = 10 * (items["done"] + items["failed"]) // max(1, items["total"])
        self._tell(stage_id, ended or str(tenths), f"{ended}, {counts}" if ended else counts)

    def _tell_children(self, seen: RunSnapshot) -> None:
        for child in WorkflowRun.objects.filter(parent_run=seen.run_id).select_related("data").order_by("created_at"):
            words = f"{child.get_input()['language']}: {child.status.lower()}"
            self._tell(shelf_list.id, words, words)

    def _tell(self, who: str, mark: str, words: str) -> None:
        """Say it, unless something with the same mark was said."""
        if (who, mark) not in self._told:
            self._told.add((who, mark))
            self._say(f"{timezone.localtime():%H:%M:%S}  {who:<13}  {words}")
