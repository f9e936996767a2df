"""Forced interleavings of claims, pauses, deadlines and limits: each pair in both orders, at each isolation level."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from tests.concurrency.isolation import isolation as isolation
from tests.concurrency.test_barriers import COMPLETED, NOTHING, Scene, Step, cancel, finish, meet, running
from tests.invariants import check_all
from tests.limits.workflows import Order, limited
from workflow_engine import create_run, pause_run, resume_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Limit, StageContext, define_workflow, stage
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import ClaimPendingRuns, DeliverNotices, ExpireRuns, GivePlaces
from workflow_engine.models import RunNotice, WorkflowRun

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(settings.BACKEND == "sqlite", reason="there no two transactions write at a time"),
    pytest.mark.usefixtures("isolation", "unpaused"),
]


@stage("only")
def only(ctx: StageContext[None]) -> int:
    return 1


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(define_workflow("barrier").pipe(only).build(), limited(Limit(1)))


def pending() -> Scene:
    return Scene(create_run("barrier"), None)  # type: ignore[arg-type]


def over_time() -> Scene:
    scene = running()
    WorkflowRun.objects.filter(pk=scene.run.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    return scene


def in_line() -> Scene:
    """A run that waits for a place, of which there is one."""
    scene = Scene(create_run("limited", Order()), None)  # type: ignore[arg-type]
    # What a look at all limits gives, no notice needs to.
    RunNotice.objects.all().delete()
    return scene


def claim(scene: Scene) -> str:
    return "claimed" if get_kernel().dispatch(ClaimPendingRuns(run_id=scene.run.pk)).claimed else NOTHING


def pause(scene: Scene) -> str:
    return "paused" if pause_run(scene.run) else NOTHING


def resume(scene: Scene) -> str:
    return "resumed" if resume_run(scene.run) else NOTHING


def expire(scene: Scene) -> str:
    return "expired" if get_kernel().dispatch(ExpireRuns()).expired else NOTHING


def give(scene: Scene) -> str:
    return "given" if get_kernel().dispatch(GivePlaces()).given else NOTHING


def paused() -> Scene:
    scene = pending()
    pause_run(scene.run)
    return scene


CLAIM: Step = (claim, points.CLAIM_IN_TX)
CANCEL: Step = (cancel, points.CANCEL_IN_TX)
PAUSE: Step = (pause, points.PAUSE_IN_TX)
RESUME: Step = (resume, points.PAUSE_IN_TX)
COMPLETE: Step = (lambda scene: finish(scene, COMPLETED), points.COMPLETE_IN_TX)
EXPIRE: Step = (expire, points.EXPIRE_IN_TX)
GIVE: Step = (give, points.PLACE_IN_TX)
# Where both begin; who comes first, and who second; what each comes to, and the run.
MEETINGS = {
    "claim-before-cancel": (pending, CLAIM, CANCEL, ("claimed", "cancelled"), "CANCELLED"),
    "cancel-before-claim": (pending, CANCEL, CLAIM, ("cancelled", NOTHING), "CANCELLED"),
    "claim-before-pause": (pending, CLAIM, PAUSE, ("claimed", "paused"), "RUNNING"),
    "pause-before-claim": (pending, PAUSE, CLAIM, ("paused", NOTHING), "PENDING"),
    "claim-before-claim": (pending, CLAIM, CLAIM, ("claimed", NOTHING), "RUNNING"),
    "resume-before-cancel": (paused, RESUME, CANCEL, ("resumed", "cancelled"), "CANCELLED"),
    "cancel-before-resume": (paused, CANCEL, RESUME, ("cancelled", NOTHING), "CANCELLED"),
    "complete-before-pause": (running, COMPLETE, PAUSE, ("completed", NOTHING), "COMPLETED"),
    "pause-before-complete": (running, PAUSE, COMPLETE, ("paused", "completed"), "COMPLETED"),
    "complete-before-expire": (over_time, COMPLETE, EXPIRE, ("completed", NOTHING), "COMPLETED"),
    "expire-before-complete": (over_time, EXPIRE, COMPLETE, ("expired", "ghost"), "FAILED"),
    "cancel-before-expire": (over_time, CANCEL, EXPIRE, ("cancelled", NOTHING), "CANCELLED"),
    "expire-before-cancel": (over_time, EXPIRE, CANCEL, ("expired", NOTHING), "FAILED"),
    "give-before-cancel": (in_line, GIVE, CANCEL, ("given", "cancelled"), "CANCELLED"),
    "cancel-before-give": (in_line, CANCEL, GIVE, ("cancelled", NOTHING), "CANCELLED"),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_whoever_comes_second_finds_what_the_first_has_done(name: str) -> None:
    begin: Callable[[], Scene]
    begin, first, second, came_to, status = MEETINGS[name]
    scene = begin()

    one, other, _ = meet(first, second, scene)

    assert (one, other) == came_to
    scene.run.refresh_from_db()
    assert scene.run.status == status
    while RunNotice.objects.exists():
        get_kernel().dispatch(DeliverNotices())
    check_all()
