"""Why a run that waits for a place of its workflow's limit has none, as a plain sentence."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from workflow_engine.statuses import OPEN_RUN, PlaceStatus

from .limits import RunLimit, RunPlace
from .runs import WorkflowRun
from .suspended import time_in_words


def why_in_line(run: WorkflowRun, now: datetime) -> str:
    """Say which limit the run waits for, who holds its places and how many go first; empty: it waits for none.

    Three queries.
    """
    places = RunPlace.objects.using(run._state.db)
    place = places.filter(pk=run.pk, status=PlaceStatus.WAITING).first()
    if place is None:
        return ""
    if place.wanted_at > now:
        return _("Not due before %(time)s.") % {"time": time_in_words(place.wanted_at)}
    of_limit = places.of(place.limit_id).filter(run__status__in=OPEN_RUN)
    held = of_limit.held().count()
    earlier = Q(rank_at__lt=place.rank_at) | Q(rank_at=place.rank_at, run_id__lt=run.pk)
    before = of_limit.waiting().filter(earlier, wanted_at__lte=now, run__paused_at__isnull=True).count()
    first = ngettext("%(count)d run goes before it.", "%(count)d runs go before it.", before) % {"count": before}
    sentences = [_why_full(place, _limit_of(place), held, now), first if before else ""]
    return " ".join(filter(None, sentences))


def _limit_of(place: RunPlace) -> RunLimit | None:
    """Return the limit's row; None: nobody has given a place of it yet."""
    return RunLimit.objects.using(place._state.db).filter(pk=place.limit_id).first()


def _why_full(place: RunPlace, limit: RunLimit | None, held: int, now: datetime) -> str:
    whose = _("of %(workflow)s") % {"workflow": place.workflow}
    if place.key:
        whose = _("of %(workflow)s with the key %(key)s") % {"workflow": place.workflow, "key": place.key}
    if limit is not None and limit.most is not None and held >= limit.most:
        text = _("Waits for a place: %(held)d of %(most)d runs %(whose)s are under way.")
        return text % {"held": held, "most": limit.most, "whose": whose}
    if limit is not None and limit.rate is not None and limit.next_at is not None and limit.next_at > now:
        text = _("Waits for its turn: of the runs %(whose)s %(rate)d may begin within %(span)s, the next at %(time)s.")
        facts = {"whose": whose, "rate": limit.rate, "span": limit.per, "time": time_in_words(limit.next_at)}
        return text % facts
    return _("Waits for a place of the limit %(whose)s; a worker gives it in a moment.") % {"whose": whose}
