"""Maps: how far a stage is that runs once per item, and the items' results, read page by page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import StageStatus

from .payloads import BlobReader, Envelope
from .runs import WorkflowRun
from .stage_runs import NOT_AN_ITEM, StageRun

PAGE = 500


class StageMap(models.Model):
    """The counts of a mapped stage, beside its own stage run; they change under the run's lock only.

    ``opened``: items that were let go so far, whatever became of them. Of those that are still under way there are at
    most ``max_parallel``. ``next_index``: the first that was not let go.
    """

    stage_run = models.OneToOneField(StageRun, on_delete=models.CASCADE, primary_key=True, related_name="map")
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="maps", db_constraint=False)
    stage = models.CharField(_("stage"), max_length=100)
    generation = models.PositiveIntegerField(_("generation"))
    on_item_error = models.CharField(_("on item error"), max_length=8)
    max_parallel = models.PositiveIntegerField(_("items at a time"))
    # So many must succeed.
    needed = models.PositiveIntegerField(_("needed"), default=0)
    total = models.PositiveIntegerField(_("items"))
    done = models.PositiveIntegerField(_("done"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    cancelled = models.PositiveIntegerField(_("cancelled"), default=0)
    opened = models.PositiveIntegerField(default=0)
    next_index = models.PositiveIntegerField(default=0)

    COUNTED: ClassVar = ("done", "failed", "cancelled", "opened", "next_index")

    class Meta:
        verbose_name = _("map")
        verbose_name_plural = _("maps")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.stage} {self.done}/{self.total}"

    @property
    def ended(self) -> int:
        """How many items have come to an end."""
        return self.done + self.failed + self.cancelled

    @property
    def is_over(self) -> bool:
        return self.ended >= self.total

    @property
    def is_failing(self) -> bool:
        """An item has failed, and that fails the stage: no further item starts."""
        return self.on_item_error == "fail" and self.failed > 0

    @property
    def room(self) -> int:
        """How many more items may be let go now."""
        left = min(self.max_parallel - (self.opened - self.ended), self.total - self.opened)
        return 0 if self.is_failing else max(0, left)

    def count_from(self, before: Mapping[str, int]) -> None:
        """Add to the row what has been counted here since it was read; the run's lock is held."""
        added = {name: getattr(self, name) - before[name] for name in self.COUNTED}
        changes = {name: F(name) + number for name, number in added.items() if number}
        if changes:
            StageMap.objects.using(self._state.db).filter(pk=self.pk).update(**changes)

    def as_progress(self) -> dict[str, Any]:
        """Return the counts as the progress of the stage: what a page or a terminal shows."""
        percent = 100.0 * self.ended / self.total if self.total else 100.0
        return {"percent": percent, "message": progress_text(self), "items": counts_of(self)}


def counts_of(row: StageMap) -> dict[str, int]:
    """Return ``{"total", "done", "failed", "cancelled", "running"}``: the last is what was let go and has not ended."""
    return {
        "total": row.total,
        "done": row.done,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "running": max(0, row.opened - row.ended),
    }


def progress_text(row: StageMap) -> str:
    """Return ``3,200 of 10,000 items, 12 failed``, in the interface's language."""
    from django.utils.translation import gettext

    text = gettext("%(done)s of %(total)s items") % {"done": f"{row.done:,}", "total": f"{row.total:,}"}
    if row.failed:
        text += gettext(", %(failed)s failed") % {"failed": f"{row.failed:,}"}
    if row.cancelled:
        text += gettext(", %(cancelled)s cancelled") % {"cancelled": f"{row.cancelled:,}"}
    return text


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How one item ended; ``output`` is the envelope of a completed one, ``error`` as the row has it."""

    index: int
    status: str
    output: dict[str, Any] | None
    error: Mapping[str, Any] | None
    attempts: int

    def as_error(self) -> dict[str, Any]:
        """Return the JSON of the item's ``ItemError``."""
        error = self.error or {"code": self.status}
        return {
            "kind": "item_error",
            "item": self.index,
            "code": error.get("code", ""),
            "class": error.get("class", ""),
            "message": error.get("message", ""),
            "attempts": self.attempts,
        }


def items_envelope(row: StageMap) -> dict[str, Any]:
    """Return the output of a mapped stage: a reference to the rows of its items, however many they are."""
    return {
        "items": {
            "run": str(row.run_id),
            "stage": row.stage,
            "generation": row.generation,
            "count": row.total,
            "failed": row.total - row.done,
            "on_item_error": row.on_item_error,
        }
    }


def read_items(reference: Mapping[str, Any], using: str, *, page: int = PAGE) -> Iterator[list[ItemResult]]:
    """Yield the results of a map in item order, page by page.

    Of an item that was run again the rows of earlier generations stay: the newest up to the map's own counts.
    """
    for start in range(0, reference["count"], page):
        yield read_page(reference, using, start, page)


def read_page(reference: Mapping[str, Any], using: str, start: int, page: int = PAGE) -> list[ItemResult]:
    """Return the results of a map from item ``start`` on."""
    rows = StageRun.objects.using(using).filter(
        run=reference["run"], stage=reference["stage"], generation__lte=reference["generation"]
    )
    rows = rows.filter(map_index__gte=start, map_index__lt=min(start + page, reference["count"]))
    columns = ("map_index", "status", "output", "error", "attempt")
    ordered = rows.order_by("map_index", "generation").values_list(*columns)
    return list({values[0]: ItemResult(*values) for values in ordered}.values())


def read_inputs(reference: Mapping[str, Any], using: str, indexes: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the envelopes of what these items of a map were."""
    rows = StageRun.objects.using(using).filter(
        run=reference["run"], stage=reference["stage"], generation__lte=reference["generation"], map_index__in=indexes
    )
    found = rows.order_by("map_index", "generation").values_list("map_index", "item")
    return {index: item for index, item in found if item is not None}


def items_json(reference: Mapping[str, Any], using: str, blobs: BlobReader | None) -> Iterator[bytes]:
    """Yield the JSON of a map's results one by one, as the group that follows gets them."""
    for results in read_items(reference, using):
        for result in results:
            if result.status == StageStatus.COMPLETED:
                yield Envelope(result.output).raw(blobs, using=using)
            elif reference["on_item_error"] == "collect":
                yield json.dumps(result.as_error(), ensure_ascii=False).encode()


def is_mapped(plan: Mapping[str, Any]) -> bool:
    """Whether some stage of a run's plan is mapped."""
    return any("map" in stage for group in plan["groups"] for stage in group["stages"])


def is_items(envelope: Mapping[str, Any] | None) -> bool:
    """Whether an output is that of a mapped stage."""
    return bool(envelope) and "items" in envelope  # type: ignore[operator]


def with_maps(rows: Sequence[StageRun], using: str) -> Callable[[StageRun], StageMap | None]:
    """Return a look-up of the counts of mapped stages among ``rows``; one statement at most."""
    stages = [row.pk for row in rows if row.map_index == NOT_AN_ITEM]
    found = StageMap.objects.using(using).in_bulk(stages) if stages else {}
    return lambda row: found.get(row.pk)
