"""Maps whose counts are not those of their rows, and what runs should have told each other; each check is one query."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import NOT_AN_ITEM, RunNotice, StageMap, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK
from workflow_engine.statuses import FINISHED_RUN, OPEN_STAGE, StageStatus, WaitKind

from .findings import BY_HAND, Finding
from .moving import LATE, NO_TICK, time_of
from .states import stages_of

LOOKED_AT = "Within a minute a worker looks at it and goes on from the rows."


def miscounted_maps(ports: Ports) -> Iterator[Finding]:
    """Maps that go on, by one statement each count and row: they change meanwhile."""
    rows = StageMap.objects.using(ports.using).filter(stage_run__status=StageStatus.SUSPENDED)
    rows = rows.annotate(
        rows_failed=_count(ports, Q(status=StageStatus.FAILED)),
        rows_cancelled=_count(ports, Q(status=StageStatus.CANCELLED)),
        rows_open=_count(ports, Q(status__in=OPEN_STAGE) & ~Q(due_at=HELD_BACK)),
        rows_held=_count(ports, Q(status__in=OPEN_STAGE, due_at=HELD_BACK)),
    )
    wrong = (
        ~Q(rows_failed=F("failed"))
        | ~Q(rows_cancelled=F("cancelled"))
        | ~Q(rows_open=F("opened") - F("done") - F("failed") - F("cancelled"))
        | ~Q(rows_held=F("total") - F("opened"))
    )
    for counts in rows.filter(wrong).order_by("-pk").iterator():
        text = (
            f"The map counts {counts.opened - counts.ended} items under way, {counts.total - counts.opened} not begun, "
            f"{counts.failed} failed and {counts.cancelled} cancelled; its rows are {counts.rows_open}, "
            f"{counts.rows_held}, {counts.rows_failed} and {counts.rows_cancelled}."
        )
        yield Finding("map.miscounted", "violation", counts.run_id, counts.stage, text, f"{BY_HAND} {LOOKED_AT}")


def _count(ports: Ports, condition: Q) -> Coalesce:
    items: QuerySet[StageRun] = StageRun.objects.using(ports.using).filter(
        run=OuterRef("run"), stage=OuterRef("stage"), generation=OuterRef("generation"), map_index__gt=NOT_AN_ITEM
    )
    number = items.filter(condition).order_by().values("run").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(number, output_field=IntegerField()), 0)


def open_items_of_ended_maps(ports: Ports) -> Iterator[Finding]:
    owner = StageRun.objects.using(ports.using).filter(
        run=OuterRef("run"), stage=OuterRef("stage"), generation=OuterRef("generation"), map_index=NOT_AN_ITEM
    )
    rows = stages_of(ports).filter(map_index__gt=NOT_AN_ITEM, status__in=OPEN_STAGE)
    rows = rows.exclude(Exists(owner.filter(status=StageStatus.SUSPENDED)))
    for run_id, stage, index, status in rows.values_list("run", "stage", "map_index", "status").iterator():
        text = f"Item {index} is {status}, and its stage does not wait for its items."
        yield Finding("map.item_left", "violation", run_id, stage, text)


def unheard_children(ports: Ports) -> Iterator[Finding]:
    """Stages that have waited for long for a child run that has ended, or is gone."""
    children = WorkflowRun.objects.using(ports.using).filter(parent_stage_run=OuterRef("pk"))
    rows = stages_of(ports).filter(
        status=StageStatus.SUSPENDED, wait_kind=WaitKind.CHILD, suspended_at__lt=time_of(ports) - LATE
    )
    rows = rows.exclude(Exists(children.exclude(status__in=FINISHED_RUN)))
    for run_id, stage, name in rows.values_list("run", "stage", "wait_name").iterator():
        text = f"The stage waits for its child run {name!r}, and no such run is open."
        yield Finding("child.unheard", "warning", run_id, stage, text, f"{LOOKED_AT} {NO_TICK}")


def undelivered_notices(ports: Ports) -> Iterator[Finding]:
    rows = RunNotice.objects.using(ports.using).filter(due_at__lt=time_of(ports) - LATE).order_by("-pk")
    for run_id, kind, sender, due_at in rows.values_list("run_id", "kind", "sender", "due_at").iterator():
        text = f"A notice ({kind}) from run {sender} was due at {due_at:%Y-%m-%d %H:%M:%S} UTC and is not delivered."
        yield Finding("notice.undelivered", "warning", run_id, "", text, NO_TICK)
