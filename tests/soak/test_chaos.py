"""What of the chaos harness can be wrong without anybody noticing: its plan, its book, its comparisons, its guards."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from pkgutil import walk_packages

import pytest

from tests.soak import chaos
from tests.soak.chaos.book import Book
from tests.soak.chaos.figures import Figures
from tests.soak.chaos.hearing import compare
from tests.soak.chaos.lanes import CI, FULL
from tests.soak.chaos.log import Log
from tests.soak.chaos.plan import MENU, chosen, plan
from tests.soak.chaos.sampling import Growth

pytestmark = pytest.mark.one_database


def test_what_only_the_long_runs_use_can_be_imported() -> None:
    names = [module.name for module in walk_packages(chaos.__path__, f"{chaos.__name__}.")]
    assert len(names) > 10

    # In a process of its own: some of them register workflows, which every later test would find.
    lines = ["import django", "django.setup()", *(f"import {name}" for name in names)]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    kinds = chosen(())

    first, again, other = (list(islice(plan(seed, 2, kinds), 200)) for seed in (7, 7, 8))

    assert first == again
    assert first != other
    assert sorted(act.kind for act in first[: len(MENU)]) == sorted(MENU)
    assert all(1 <= later.at - earlier.at <= 3 for earlier, later in pairwise(first))


def test_acts_are_chosen_by_their_group_or_their_name() -> None:
    assert chosen(["pg", "redis-flush"]) == ("redis-flush", "pg-restart", "pg-terminate")
    assert chosen(()) == tuple(MENU)
    with pytest.raises(ValueError, match="earthquake"):
        chosen(["earthquake"])


def test_a_book_that_is_opened_again_knows_what_was_written_and_not_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    book = Book.open(path)
    book.write("try", 1, workflow="line")
    book.write("try", 1, workflow="line")
    book.write("made", 1, run_id="a", created=False, seconds=0.1)
    book.write("try", 2, workflow="line")
    with path.open("a") as file:
        file.write('{"kind": "made", "number": 2, "ru')

    again = Book.open(path)

    assert (again.entries[1].tries, again.entries[1].run_id, again.entries[1].replays) == (2, "a", 1)
    assert again.entries[2].run_id == ""
    assert again.last == 2


def test_what_a_subscriber_heard_is_compared_with_what_there_was_to_hear() -> None:
    wanted = {"run": [(1, "run.created"), (2, "stage.started"), (3, "run.completed")]}

    def found(*sequences: int, events: tuple[str, ...] = ("run.*",)) -> list[str]:
        return list(compare("it", events, wanted, [(0.0, "run", number) for number in sequences]))

    assert not found(1, 1, 3, 1)
    assert not found(1, 2, 3, events=("*",))
    assert found(1)
    assert found(3, 1)
    assert found(1, 2, 3)
    assert list(compare("it", ("*",), {}, [(0.0, "other", 1)]))


def test_a_lane_in_which_too_little_happened_has_not_been_performed() -> None:
    figures = Figures(CI, 1, CI.acts)
    assert (figures.verdict, figures.code) == ("PASS", 0)

    figures.missing = ["kills during a body"]
    assert (figures.verdict, figures.code) == ("NOT PERFORMED", 2)

    figures.problem("lost", ["a run"])
    assert (figures.verdict, figures.code) == ("FAIL", 1)
    assert any("lost 1" in line for line in figures.lines())
    assert figures.as_json()["problems"]["lost"] == 1


def test_stages_that_were_taken_back_too_late_are_told() -> None:
    figures = Figures(FULL, 1, FULL.acts, taken_back=[6.9, 7.2])

    assert figures.missed_goals() == ["1 of 2 stages were taken back later than 7 s"]


def test_the_log_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    start = "2026-11-26 14:00:00,000 17"
    path.write_text(
        f"{start} INFO workflow_engine.hosts.ended result refused run=abc stage=read\n"
        f"{start} DEBUG workflow_engine.kernel.unit_of_work transaction repeated try=1 error=x\n"
    )
    log = Log(path)
    log.read()
    with path.open("a") as file:
        file.write(
            f"{start} ERROR some.where broken run=abc\nTraceback (most recent call last)\n  a line\nValueError: x\n"
        )

    log.read()

    assert (log.refused, log.repeated) == (Counter(abc=1), 1)
    assert log.complaints == Counter({"ERROR broken": 1})
    assert "ValueError: x" in log.wrong()[0]


def test_growth_is_the_slope_of_the_samples() -> None:
    growth = Growth(100.0)
    for second in range(600):
        growth.add(100.0 + second, 50 + second / 3600 * 6)

    assert growth.per_hour == pytest.approx(6)
