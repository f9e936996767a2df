"""Threads that many share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.waiting import until
from workflow_engine.hosts import sharing
from workflow_engine.hosts.sharing import SharedThreads, Turn

DONE = Turn()


@pytest.fixture
def share() -> Iterator[Callable[..., SharedThreads]]:
    made: list[SharedThreads] = []

    def make(turn: Callable[[str], Turn], size: int = 4) -> SharedThreads:
        made.append(SharedThreads("test", turn, size))
        return made[-1]

    yield make
    for threads in made:
        threads.stop(10)


def test_everybody_has_a_turn_and_none_has_two_at_once(share: Any) -> None:
    lock, turns, under_way, most = threading.Lock(), Counter[str](), Counter[str](), [0]

    def turn(name: str) -> Turn:
        with lock:
            under_way[name] += 1
            turns[name] += 1
            assert under_way[name] == 1
            most[0] = max(most[0], under_way.total())
        with lock:
            under_way[name] -= 1
        return Turn(0.0 if turns[name] < 5 else None)

    threads = share(turn)
    for number in range(40):
        threads.wake(f"name-{number % 20}")

    until(lambda: len(turns) == 20 and min(turns.values()) >= 5, "all had their turns")
    assert most[0] <= 4


def test_who_is_woken_during_its_turn_has_another(share: Any) -> None:
    began, go_on, turns = threading.Event(), threading.Event(), []

    def turn(name: str) -> Turn:
        turns.append(name)
        began.set()
        go_on.wait(30)
        return DONE

    threads = share(turn)
    threads.wake("a")
    assert began.wait(30)
    threads.wake("a"), threads.wake("a")
    go_on.set()

    until(lambda: turns == ["a", "a"], "the second turn")


def test_those_that_hang_leave_half_of_the_threads_to_the_others(share: Any) -> None:
    let_go, hanging, served = threading.Event(), Counter[str](), Counter[str]()
    seen_before: set[str] = set()

    def turn(name: str) -> Turn:
        if name.startswith("good"):
            served[name] += 1
            return DONE
        if name in seen_before:
            hanging[name] += 1
            let_go.wait(30)
        seen_before.add(name)
        return Turn(0.0, is_slow=True)

    threads = share(turn, 4)
    try:
        for number in range(10):
            threads.wake(f"bad-{number}")
        until(lambda: len(seen_before) == 10, "each of them has failed once")
        until(lambda: hanging.total() == 2, "two of them hang")
        for _ in range(3):
            for number in range(10):
                threads.wake(f"good-{number}")
        until(lambda: len(served) == 10, "the others have their turns")
        assert hanging.total() == 2
    finally:
        let_go.set()


def test_who_rests_has_no_turn_before_its_time(share: Any) -> None:
    turns: list[str] = []

    def turn(name: str) -> Turn:
        turns.append(name)
        return Turn(3600.0) if name == "tired" else DONE

    threads = share(turn)
    threads.wake("tired")
    until(lambda: turns == ["tired"], "its turn")
    for _ in range(5):
        threads.wake("tired")
    threads.wake("other")

    until(lambda: "other" in turns, "the other's turn")
    assert turns == ["tired", "other"]


def test_a_rest_ends_by_itself(share: Any) -> None:
    turns: list[str] = []

    def turn(name: str) -> Turn:
        turns.append(name)
        return Turn(0.05) if len(turns) < 3 else DONE

    share(turn).wake("a")

    until(lambda: len(turns) == 3, "three turns")


def test_an_error_is_a_turn_that_comes_again(share: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "AGAIN_SECONDS", 0.01)
    turns: list[str] = []

    def turn(name: str) -> Turn:
        turns.append(name)
        if len(turns) < 3:
            raise ConnectionError("the database is away")
        return DONE

    share(turn).wake("a")

    until(lambda: len(turns) == 3, "it was tried again")


def test_threads_that_have_nothing_to_do_end_and_come_back(share: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "IDLE_SECONDS", 0.05)
    turns: list[str] = []

    def turn(name: str) -> Turn:
        turns.append(name)
        return DONE

    threads = share(turn)
    threads.wake("a")
    until(lambda: turns == ["a"] and not threads._threads, "it has ended")
    threads.wake("b")

    until(lambda: turns == ["a", "b"], "another thread")


def test_after_the_end_nobody_has_a_turn(share: Any) -> None:
    turns: list[str] = []
    threads = share(lambda name: turns.append(name) or DONE)
    threads.stop(5)

    threads.wake("a")

    assert not threads._threads
    assert turns == []
