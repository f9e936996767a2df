"""What all deleting of old rows shares: what is asked for, and how far a page has come."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import DatabaseError, connections
from django.db.models import Model, QuerySet

from workflow_engine.errors import DatabaseConflict
from workflow_engine.models import WorkflowRun
from workflow_engine.models.base import lock_rows, read_clock
from workflow_engine.statuses import FINISHED_RUN

from .ports import Ports
from .unit_of_work import UnitOfWork, transact

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """The folders of runs that a storage had when it was listed, in order, and how many of them are done with.

    Sixteen bytes each: there may be millions, and a storage is not to be listed again for every page.
    """

    ids: bytes = field(repr=False)
    done: int = 0

    def __len__(self) -> int:
        return len(self.ids) // 16 - self.done

    def page(self, most: int) -> list[uuid.UUID]:
        """Return the next of them."""
        end = min(len(self.ids), (self.done + most) * 16)
        return [uuid.UUID(bytes=self.ids[at : at + 16]) for at in range(self.done * 16, end, 16)]

    def after(self, count: int) -> Listed | None:
        """Return what is left when ``count`` more are done with; None: nothing."""
        left = Listed(self.ids, self.done + count)
        return left if len(left) > 0 else None


Place = uuid.UUID | str | Listed
# A row that others refer to, a trigger that objects, a statement that takes too long: the next row may be deleted.
REFUSALS = (DatabaseError, DatabaseConflict)
# Of one row after the other: then it is not the rows.
MOST_CONFLICTS = 3


@dataclass(frozen=True, slots=True)
class Page:
    """What one page has come to; ``place`` None: that was the last one.

    ``kept`` were to go and could not be deleted; ``refusal`` says why, of one of them.
    """

    deleted: int
    place: Place | None = None
    kept: int = 0
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is to be deleted: what ended longer than ``older_than`` ago, of runs only those in ``statuses``."""

    ports: Ports
    causation_id: uuid.UUID
    older_than: timedelta
    statuses: Sequence[str] = FINISHED_RUN
    most: int = 200
    after: Place | None = None
    dry_run: bool = False
    # A pass with this name is made by whoever begins with it first; empty: by everybody who asks.
    once: str = ""

    @property
    def now(self) -> datetime:
        return self.ports.clock.now() if self.ports.is_frozen else read_clock(self.ports.using)

    @property
    def limit(self) -> datetime:
        return self.now - self.older_than

    def is_over(self, run: WorkflowRun, now: datetime) -> bool:
        """Whether a run whose lock is held has ended, and long enough ago."""
        ended = run.status in self.statuses and run.status in FINISHED_RUN and run.finished_at is not None
        return ended and run.finished_at < now - self.older_than  # type: ignore[operator]

    def runs(self) -> QuerySet[WorkflowRun]:
        rows = WorkflowRun.objects.using(self.ports.using).filter(status__in=self.statuses, finished_at__lt=self.limit)
        return (rows if self.after is None else rows.filter(pk__gt=self.after)).order_by("pk")

    def page_of(self, rows: QuerySet[Any], delete: Callable[[UnitOfWork, uuid.UUID], int]) -> Page:
        """Let ``delete`` do what it does to each row of a page, in a transaction of its own."""
        ids = list(rows.values_list("pk", flat=True)[: self.most])
        deleted, conflicts, refusals = 0, 0, []
        for pk in ids:
            try:
                deleted += 1 if self.dry_run else self.transact(lambda work, pk=pk: delete(work, pk))  # type: ignore[misc]
            except REFUSALS as error:
                conflicts = conflicts + 1 if isinstance(error, DatabaseConflict) else 0
                if conflicts == MOST_CONFLICTS:
                    raise
                refusals.append(self.explain(error, pk))
            else:
                conflicts = 0
        return Page(deleted, ids[-1] if len(ids) == self.most else None, len(refusals), "".join(refusals[:1]))

    def transact(self, step: Callable[[UnitOfWork], T]) -> T:
        return transact(self.ports, self.causation_id, step)

    def explain(self, error: Exception, what: object) -> str:
        """Return why ``what`` stays. Raises ``error`` again if it has ended the caller's transaction."""
        if isinstance(error, DatabaseConflict) and connections[self.ports.using].in_atomic_block:
            raise error
        return f"{what}: {error}".strip()[:500]


def delete_rows(rows: QuerySet[Any]) -> int:
    """Delete rows by one statement: what hangs on them was deleted before, so nothing is collected first.

    Unless models of the project refer to them: their ``on_delete`` is carried out, and Django does that.
    """
    if _is_referred_to(rows.model):
        return rows.order_by().delete()[1].get(rows.model._meta.label, 0)
    return int(rows._raw_delete(rows.db) or 0)


def _is_referred_to(model: type[Model]) -> bool:
    relations = model._meta.get_fields(include_hidden=True)
    ours = model._meta.app_label
    return any(
        relation.auto_created and not relation.concrete and relation.related_model._meta.app_label != ours  # type: ignore[union-attr]
        for relation in relations
    )


def delete_free(pruning: Pruning, rows: QuerySet[Any]) -> Page:
    """Delete the first of ``rows`` that nobody else is at; none is kept, so the next page begins there again."""

    def delete(work: UnitOfWork) -> Page:
        # What is locked is what the conditions hold for now; and whoever deletes too gets others.
        ids = list(lock_rows(rows, skip_locked=True).values_list("pk", flat=True)[: pruning.most])
        deleted = delete_rows(rows.model._default_manager.using(rows.db).filter(pk__in=ids)) if ids else 0
        return Page(deleted, "first" if len(ids) == pruning.most else None)

    if pruning.dry_run:
        return Page(rows.count())
    try:
        return pruning.transact(delete)
    except REFUSALS as error:
        refusal = pruning.explain(error, rows.model._meta.verbose_name_plural)
        return Page(0, kept=min(pruning.most, rows.count()), refusal=refusal)
