"""The processes that the fault tests kill: each is forked from a warm one, and yet one of its own."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.processes import start
from workflow_engine.kernel import points

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]
FACTS = "import os, random, uuid; print(os.getsid(0) == os.getpid(), random.random(), uuid.uuid4())"


def test_a_process_has_a_session_a_dice_and_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start("shell", "--no-imports", "-c", FACTS), start("shell", "--no-imports", "-c", FACTS)
    monkeypatch.setenv("WFE_TEST_HEARD", "somewhere")
    third = start("shell", "--no-imports", "-c", "import os; print(os.environ['WFE_TEST_HEARD'])")

    assert [process.wait() for process in (first, second, third)] == [0, 0, 0], first.output()
    (alone, *numbers), (alone_too, *others) = first.output().split(), second.output().split()
    assert (alone, alone_too) == ("True", "True")
    assert set(numbers).isdisjoint(others)
    assert third.output().strip() == "somewhere"
    assert first.pid != os.getpid()


def test_what_shapes_the_settings_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFE_TEST_OWN_REDIS_URL", "redis://elsewhere:1")
    command = "from django.conf import settings; print(settings.RQ_QUEUES['default']['URL'])"

    process = start("shell", "--no-imports", "-c", command, settings_module="tests.transports.rq.settings")

    assert (process.wait(), process.output().strip()) == (0, "redis://elsewhere:1")


def test_its_end_is_told_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = start("wfe_worker", "--threads", "none")
    killed = start("wfe_worker", "--skip-checks")
    killed.send_signal(signal.SIGKILL)
    unknown = start("wfe_worker", crash_at="nowhere:1")

    assert (refused.wait(), killed.wait(), unknown.wait()) == (2, -signal.SIGKILL, 1)
    assert "--threads" in refused.output()
    assert f"Points: {points.POINTS[0]}" in unknown.output()
