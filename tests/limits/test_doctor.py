"""What the doctor says of limits; and that it says nothing where all is well."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from workflow_engine import cancel_run, create_run
from workflow_engine.definitions import Limit
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import DeliverNotices
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import RunNotice, RunPlace
from workflow_engine.testing import FakeClock

from .workflows import Order, by_tenant, limited, per_minute


def codes(kernel: Kernel) -> list[str]:
    return [finding.code for finding in examine(kernel.ports).findings]


def test_runs_that_wait_for_good_reason_are_healthy(
    kernel: Kernel, host: InlineHost, clock: FakeClock, known: Any
) -> None:
    known(by_tenant(1), limited(Limit(rate=per_minute(1)), id="rated"))
    for _ in range(3):
        create_run("limited", Order())
        create_run("rated", Order())
    kernel.dispatch(DeliverNotices())
    assert codes(kernel) == []

    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        host.drain()

    assert not RunPlace.objects.exclude(status="FREE").exists()
    assert codes(kernel) == []


def test_a_free_place_that_nobody_gives_is_found(kernel: Kernel, clock: FakeClock, known: Any) -> None:
    known(by_tenant(2))
    for _ in range(3):
        create_run("limited", Order())
    kernel.dispatch(DeliverNotices())
    RunPlace.objects.held().order_by().filter(pk=RunPlace.objects.held().first().pk).update(status="FREE")  # type: ignore[union-attr]
    RunNotice.objects.all().delete()
    clock.advance(timedelta(minutes=11))

    (found,) = [one for one in examine(kernel.ports).findings if one.code == "limit.not_given"]

    assert found.text == "1 runs of 'limited' with the key 'acme' wait; 1 of 2 places are held."


def test_a_limit_that_was_lowered_is_told(kernel: Kernel, known: Any) -> None:
    known(limited(Limit(3)))
    runs = [create_run("limited", Order()) for _ in range(4)]
    kernel.dispatch(DeliverNotices())
    with registry_override(limited(Limit(2))):
        RunNotice.objects.create(run=runs[3], sender=runs[3].pk, kind="place", due_at=kernel.ports.clock.now())
        kernel.dispatch(DeliverNotices())

    (found,) = examine(kernel.ports).findings

    assert (found.code, found.text) == ("limit.exceeded", "3 runs of 'limited' are under way; 2 may be.")


def test_a_run_that_is_held_back_and_in_no_line_is_a_violation(kernel: Kernel, known: Any) -> None:
    known(limited(Limit(1)))
    run = create_run("limited", Order())
    RunPlace.objects.all().delete()

    (found,) = examine(kernel.ports).violations

    assert (found.code, found.run_id) == ("place.missing", run.pk)


def test_a_limit_whose_places_change_hands_is_healthy_however_long_its_line_is(
    kernel: Kernel, clock: FakeClock, known: Any
) -> None:
    known(limited(Limit(1)))
    first = create_run("limited", Order())
    create_run("limited", Order())
    kernel.dispatch(DeliverNotices())
    clock.advance(timedelta(hours=1))
    cancel_run(first)

    assert codes(kernel) == []
