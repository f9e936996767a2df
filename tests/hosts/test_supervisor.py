"""The supervisor with small programs for children."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until
from workflow_engine.hosts import supervisor as module
from workflow_engine.hosts.supervised import DEAD_WORKERS, WORKER_ID, Stopping
from workflow_engine.hosts.supervisor import ChildEvent, ChildExited, ChildStarted, Supervisor
from workflow_engine.management.commands.wfe_worker import without_processes

OBEYING = "import sys; sys.exit({code} if sys.stdin.buffer.read(1) == b'd' else 99)"
HURRIED = "import sys; sys.stdin.buffer.read(1); sys.exit(0 if sys.stdin.buffer.read(1) == b'h' else 99)"


class Supervised:
    """A supervisor that works in a thread, and what it told."""

    def __init__(self, program: str, **options: Any) -> None:
        self.told: list[ChildEvent] = []
        command = options.pop("command", [sys.executable, "-c", program])
        self.supervisor = Supervisor(command, name="box", tell=self.told.append, **{"processes": 1, **options})
        self.code = ThreadPoolExecutor(1).submit(self.supervisor.run)

    def exits(self) -> list[ChildExited]:
        return [event for event in list(self.told) if isinstance(event, ChildExited)]

    def starts(self) -> list[ChildStarted]:
        return [event for event in list(self.told) if isinstance(event, ChildStarted)]

    def stop(self) -> int:
        self.supervisor.stop()
        return self.code.result(60)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.05)


def test_who_dies_young_is_started_again_after_pauses_that_grow(short_pauses: None) -> None:
    supervised = Supervised("raise SystemExit(3)")

    until(lambda: len(supervised.exits()) >= 5, "it died five times")
    supervised.stop()

    assert [event.again_in for event in supervised.exits()[:5]] == [0.01, 0.02, 0.04, 0.05, 0.05]
    assert [event.restarts for event in supervised.starts()[:5]] == [0, 1, 2, 3, 4]
    assert {event.code for event in supervised.exits()} == {3}


def test_the_next_one_is_told_who_it_is_and_who_has_died_before_it(short_pauses: None, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    names = f"{WORKER_ID!r}, {DEAD_WORKERS!r}"
    supervised = Supervised(
        f"import os; open({str(seen)!r}, 'a').write('|'.join(map(os.environ.get, ({names}))) + '\\n'); "
        "raise SystemExit(3)"
    )
    until(lambda: len(supervised.exits()) >= 12, "it died twelve times")
    supervised.stop()

    ids, dead = zip(*(line.split("|") for line in seen.read_text().splitlines()[:12]), strict=True)
    assert len(set(ids)) == 12
    # Ten at most: one may die before it has said who died before it, but hardly so many.
    assert [text.split() for text in dead] == [list(ids[max(0, number - 10) : number]) for number in range(12)]


def test_whoever_ends_in_good_order_is_not_reported(short_pauses: None, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"import os; open({str(seen)!r}, 'a').write(os.environ[{DEAD_WORKERS!r}] + '\\n')"
    supervised = Supervised(program)
    until(lambda: len(supervised.exits()) >= 3, "it ended three times")
    supervised.stop()

    assert set(seen.read_text().splitlines()) == {""}


def test_a_death_before_the_end_is_not_the_supervisors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 60.0)
    supervised = Supervised("raise SystemExit(3)")
    until(supervised.exits, "it died")

    assert supervised.stop() == 0


def test_who_has_lived_for_long_is_started_again_soon(short_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROWN_UP_SECONDS", 0.0)
    supervised = Supervised("raise SystemExit(3)")

    until(lambda: len(supervised.exits()) >= 3, "it died three times")
    supervised.stop()

    assert {event.again_in for event in supervised.exits()[:3]} == {0.01}


def test_the_worst_code_is_the_supervisors() -> None:
    program = "import sys; number = int(sys.argv[-1][-1]); " + OBEYING.format(code="number * 10")
    supervised = Supervised(program, processes=3)
    until(lambda: len(supervised.starts()) == 3, "all have started")

    assert supervised.stop() == 30


def test_a_first_stop_drains_and_a_second_hurries() -> None:
    supervised = Supervised(HURRIED, processes=2)

    supervised.supervisor.stop()

    assert supervised.stop() == 0


def test_a_child_that_a_signal_reaches_before_it_can_drain_ends_in_good_order() -> None:
    supervised = Supervised("import os, sys; sys.stdin.buffer.read(1); os.kill(os.getpid(), 15)")

    assert supervised.stop() == 0
    assert supervised.exits()[0].signal == "SIGTERM"


def test_in_a_burst_only_who_fails_is_started_again(short_pauses: None, tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    program = f"import pathlib, sys; mark = pathlib.Path({str(mark)!r}); found = mark.exists(); mark.touch(); "
    supervised = Supervised(program + "sys.exit(0 if found else 7)", burst=True)

    assert supervised.code.result(60) == 0
    assert [(event.code, event.again_in) for event in supervised.exits()] == [(7, 0.01), (0, None)]


def test_a_command_that_cannot_be_started_is_tried_again(short_pauses: None, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="workflow_engine")
    supervised = Supervised("", command=["/nowhere/at/all"])

    until(lambda: len(caplog.records) >= 2, "it has tried again")

    assert supervised.stop() == 0
    assert "worker process not started" in caplog.text


@pytest.mark.parametrize(
    ("calls", "stops"),
    [
        (["drain"], 1),
        (["drain", "signal"], 1),
        (["signal", "drain"], 1),
        (["signal", "signal"], 2),
        (["drain", "signal", "signal"], 2),
        (["signal", "hurry"], 2),
        (["hurry", "signal", "signal", "drain"], 2),
    ],
)
def test_an_order_that_comes_from_two_sides_counts_once(calls: list[str], stops: int) -> None:
    stopped: list[int] = []
    stopping = Stopping(lambda: stopped.append(1))

    for name in calls:
        getattr(stopping, name)()

    assert len(stopped) == stops


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--processes", "4", "--burst"], ["--burst"]),
        (["--processes=4", "--threads", "2"], ["--threads", "2"]),
        (["--json", "--proc", "4"], ["--json"]),
        (["--pythonpath", "x", "--pr=2"], ["--pythonpath", "x"]),
    ],
)
def test_children_are_told_all_but_the_number_of_processes(given: list[str], kept: list[str]) -> None:
    assert without_processes(given) == kept
