"""A real worker process dies by SIGKILL while it delivers events; others go on; everybody hears of everything."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from django.test import override_settings

from tests.faults.hearing import heard
from tests.faults.hearing_settings import HEARING, MOODY
from tests.faults.processes import ForkedProcess, stop, worker_process
from tests.faults.takeover import killed, take_over
from tests.faults.workflows import crashing
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
EVENT_POINTS = (points.HAND_ON_IN_TX, points.FLUSH_CLAIMED, points.FLUSH_EMITTED, points.FLUSH_IN_TX)
CASES = [(point, hit) for point in EVENT_POINTS for hit in (1, 3)]
SETTINGS = "tests.faults.hearing_settings"


def all_heard() -> bool:
    return not (
        WorkflowRun.objects.open().exists()
        or OutboxEvent.objects.filter(pending=True).exists()
        or EventCursor.objects.exists()
    )


def in_order(numbers: list[int], last: int) -> bool:
    """Whether everything came, and what was repeated was repeated in order."""
    return sorted(set(numbers)) == list(range(1, last + 1)) and all(
        later <= earlier + 1 for earlier, later in pairwise(numbers)
    )


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_whoever_dies_while_it_delivers_costs_nothing_but_a_repetition(
    point: str, hit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFE_TEST_HEARD", str(tmp_path / "heard"))
    with registry_override(crashing), override_settings(WORKFLOW_ENGINE=HEARING):
        runs = [create_run(crashing, "input") for _ in range(3)]
        killed(f"{point}:{hit}", settings_module=SETTINGS)
        take_over(all_heard, workers=2, settings_module=SETTINGS)

    found = heard(tmp_path / "heard")
    for run in runs:
        numbers = found[run.pk]
        last = WorkflowRun.objects.get(pk=run.pk).event_seq
        assert in_order(numbers, last), numbers
        # Before anything was delivered nothing is repeated; later another of its threads may be in the middle of it.
        assert len(numbers) == last or hit > 1 or point in (points.FLUSH_EMITTED, points.FLUSH_IN_TX)
    assert not DeadLetter.objects.exists()
    check_all()


@pytest.mark.postgresql
def test_a_sink_that_fails_and_hangs_and_workers_that_are_killed_leave_every_order_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFE_TEST_HEARD", str(tmp_path / "heard"))

    def worker() -> ForkedProcess:
        return stack.enter_context(worker_process(settings_module="tests.faults.moody_settings"))

    def deliveries() -> int:
        return sum(map(len, heard(tmp_path / "heard-moody").values()))

    with registry_override(crashing), override_settings(WORKFLOW_ENGINE=MOODY), ExitStack() as stack:
        runs = [create_run(crashing, "input") for _ in range(40)]
        workers = [worker() for _ in range(3)]
        for victim in range(4):
            enough = deliveries() + 60
            until(lambda enough=enough: deliveries() > enough, "deliveries go on", 90)  # type: ignore[misc]
            workers[victim % 3].send_signal(signal.SIGKILL)
            workers[victim % 3] = worker()
        until(all_heard, "all is delivered", seconds=200)
        for worker in workers:
            stop(worker)

    good, bad = heard(tmp_path / "heard"), heard(tmp_path / "heard-moody")
    assert EventCursor.objects.count() == 0
    for run in runs:
        last = WorkflowRun.objects.get(pk=run.pk).event_seq
        assert in_order(good[run.pk], last), good[run.pk]
        assert in_order(bad[run.pk], last), bad[run.pk]
    assert not DeadLetter.objects.exists()
    check_all()
