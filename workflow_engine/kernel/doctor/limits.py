"""Runs that wait for a place of a limit although there is one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, F, IntegerField, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import RunLimit, RunPlace
from workflow_engine.models.limits import RunPlaceQuerySet
from workflow_engine.statuses import OPEN_RUN, PlaceStatus

from .findings import Finding, finding
from .moving import LATE, time_of


def limits_exceeded(ports: Ports) -> Iterator[Finding]:
    rows = RunLimit.objects.using(ports.using).filter(most__isnull=False).annotate(under_way=_held(ports))
    for one in rows.filter(under_way__gt=F("most")).order_by("pk").iterator():
        text = f"{one.under_way} runs of {_name(one.workflow, one.key)} are under way; {one.most} may be."
        yield finding("limit.exceeded", None, text=text)


def free_places(ports: Ports) -> Iterator[Finding]:
    """Limits whose places nobody gives: somebody waits for long, and nothing has moved meanwhile."""
    long_ago = time_of(ports) - LATE
    waiting = RunPlace.objects.using(ports.using).wanted(long_ago).order_by()
    lines = waiting.values("limit", "workflow", "key").annotate(number=Count("pk")).order_by("limit")
    limits = RunLimit.objects.using(ports.using).annotate(under_way=_held(ports))
    for line in lines.iterator():
        limit = limits.filter(pk=line["limit"]).first()
        places = RunPlace.objects.using(ports.using).of(line["limit"])
        moved = places.filter(Q(given_at__gt=long_ago) | Q(run__finished_at__gt=long_ago)).exists()
        if moved or (limit is not None and _is_full(limit, long_ago)):
            continue
        held = 0 if limit is None else limit.under_way
        most = (limit and limit.most) or "any number"
        text = (
            f"{line['number']} runs of {_name(line['workflow'], line['key'])} wait; {held} of {most} places are held."
        )
        yield finding("limit.not_given", None, text=text)


def _is_full(limit: Any, long_ago: datetime) -> bool:
    return (limit.most is not None and limit.under_way >= limit.most) or (
        limit.next_at is not None and limit.next_at >= long_ago
    )


def _places(ports: Ports) -> RunPlaceQuerySet:
    return RunPlace.objects.using(ports.using).filter(limit=OuterRef("pk"), run__status__in=OPEN_RUN)


def _held(ports: Ports) -> Coalesce:
    held = _places(ports).filter(status=PlaceStatus.HELD).order_by().values("limit")
    return Coalesce(Subquery(held.annotate(number=Count("pk")).values("number"), output_field=IntegerField()), 0)


def _name(workflow: str, key: str) -> str:
    return repr(workflow) + (f" with the key {key!r}" if key else "")
