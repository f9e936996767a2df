"""``limit.give_places``: free places of limits go to the runs that wait for them; a safety net."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.db import InterfaceError, OperationalError

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, WorkflowNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.giving_places import give_places
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import RunNotice, RunPlace
from workflow_engine.models.compiled import THIS_LIMIT, rows_of

from .base import Command, handles

logger = logging.getLogger(__name__)
# What cannot be done now is tried again after this.
LATER = timedelta(seconds=30)
# Id, workflow, key.
_Limit = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class GivePlacesResult:
    # Runs that have a place now and may be claimed.
    given: int
    # After which limit the next page begins; None: this was the last one.
    place: str | None
    # There is a limit of a workflow that is not registered here.
    unknown: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class GivePlaces(Command[GivePlacesResult]):
    """Look at a page of the limits for which runs wait, and give what is free. Any number of callers at a time.

    Whoever creates or ends a run with a limit leaves a notice, which does the same at once.
    """

    type = "limit.give_places"
    max: int = 100
    after: str = ""


@handles(GivePlaces)
def give_all(command: GivePlaces, ports: Ports, causation_id: uuid.UUID) -> GivePlacesResult:
    given, place, known = 0, command.after, set(ports.known_workflows())
    unknown = False
    for _ in range(command.max):
        limit = _next_limit(ports, place)
        if limit is None:
            return GivePlacesResult(given=given, place=None, unknown=unknown)
        place = limit[0]
        if limit[1] in known:
            given += _give(ports, causation_id, limit, None) or 0
        else:
            unknown = True
    return GivePlacesResult(given=given, place=place, unknown=unknown)


def _next_limit(ports: Ports, after: str) -> _Limit | None:
    """Return the next limit for which somebody waits: one look-up in the index, however many there are."""

    def build() -> Any:
        waiting = (
            RunPlace.objects.using(ports.using).waiting().filter(limit__gt=THIS_LIMIT).order_by("limit", "rank_at")
        )
        return waiting.values_list("limit_id", "workflow", "key")[:1]

    found = rows_of(ports.using, "next limit", build, places={THIS_LIMIT: after})
    return cast(_Limit, tuple(found[0])) if found else None


def give_for(ports: Ports, causation_id: uuid.UUID, notices: Mapping[int, uuid.UUID], most: int) -> tuple[int, bool]:
    """Look at the limits of runs; return how many notices were acted on, and whether limits are left out.

    Args:
        notices: id → the run that it is about.
        most: limits that are looked at.
    """
    places = RunPlace.objects.using(ports.using).filter(pk__in=set(notices.values()))
    by_limit: dict[_Limit, set[uuid.UUID]] = {}
    for place in places:
        by_limit.setdefault((place.limit_id, place.workflow, place.key), set()).add(place.pk)
    counted = set().union(*by_limit.values())
    # No limit counts these runs, or they were deleted.
    done = [pk for pk, run_id in notices.items() if run_id not in counted]
    RunNotice.objects.using(ports.using).filter(pk__in=done).delete()
    acted = len(done)
    for limit, runs in list(by_limit.items())[:most]:
        mine = {pk: run_id for pk, run_id in notices.items() if run_id in runs}
        if _give(ports, causation_id, limit, mine) is not None:
            acted += len(mine)
    return acted, len(by_limit) > most


def _give(ports: Ports, causation_id: uuid.UUID, limit: _Limit, notices: Mapping[int, uuid.UUID] | None) -> int | None:
    """Give the places of one limit, and delete the notices that ask for that; return how many were given.

    None: it could not be done now, and is left for the next look.
    """
    try:
        return transact(ports, causation_id, lambda work: _step(work, limit, notices))
    except WorkflowNotFound:
        # A deploy is under way: whoever knows it looks again.
        _put_off(ports, notices or {})
    except (DatabaseConflict, DatabaseUnavailable, OperationalError, InterfaceError):
        raise
    except Exception:  # one bad limit must not keep the others waiting
        logger.exception("places cannot be given workflow=%s key=%s", limit[1], limit[2])
        _put_off(ports, notices or {})
    return None


def _step(work: UnitOfWork, limit: _Limit, notices: Mapping[int, uuid.UUID] | None) -> int | None:
    pk, workflow_id, key = limit
    told = None if notices is None else set(notices.values())
    given = give_places(work, workflow_id, key, pk, told=told)
    if given is None:
        return None
    RunNotice.objects.using(work.ports.using).filter(pk__in=list(notices or ())).delete()
    work.save()
    points.hit(points.PLACE_IN_TX)
    return given


def _put_off(ports: Ports, notices: Mapping[int, uuid.UUID]) -> None:
    now = ports.clock.db_now()
    RunNotice.objects.using(ports.using).filter(pk__in=list(notices)).put_off(now, now + LATER)
