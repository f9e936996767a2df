"""``wfe_outbox``: who is to hear of what, delivered here and now or once more."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.management.calling import call
from tests.outbox.hearing import CHAIN, Hearing, new_run
from tests.outbox.letters import dead_letter
from workflow_engine.models import DeadLetter
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture
def hearing(clock: FakeClock, known: Callable[..., Any]) -> Iterator[Hearing]:
    known(CHAIN)
    with Hearing(clock, tries=1, mailer={}, pager={"types": frozenset({"run.failed"})}) as entered:
        yield entered


def test_it_says_who_is_to_hear_of_what(hearing: Hearing) -> None:
    new_run()
    dead_letter(new_run(), subscriber="gone")

    shown = call("wfe_outbox")
    state = {row["subscriber"]: row for row in call("wfe_outbox", "--json").json["subscribers"]}

    assert state["mailer"]["known"] is True
    assert (state["gone"]["known"], state["gone"]["dead_letters"]) == (False, 1)
    assert state["(not handed on yet)"]["events"] == 2
    assert "gone (not known here)" in shown.out
    assert "2 events" in shown.out


def test_it_delivers_here_and_now(hearing: Hearing) -> None:
    run = new_run()

    called = call("wfe_outbox", "--flush")

    assert (called.code, called.lines) == (0, ["1 events delivered."])
    assert hearing["mailer"].heard(run) == [1]


def test_what_is_refused_for_good_is_a_dead_letter(hearing: Hearing) -> None:
    new_run()
    hearing["mailer"].refuses = lambda event: True

    called = call("wfe_outbox", "--flush", "--json")

    assert called.json["dead_lettered"] == 1
    assert DeadLetter.objects.get().error == "Refused: not run.created"


def test_dead_letters_are_delivered_again(hearing: Hearing) -> None:
    run, other = new_run(), new_run()
    hearing.flush()
    dead_letter(run), dead_letter(other), dead_letter(run, sequence=2, type="run.started")

    called = call("wfe_outbox", "--replay", "--run", str(run.pk), "--type", "run.created", "--subscriber", "mailer")

    assert called.lines == ["1 dead letters will be delivered again."]
    assert DeadLetter.objects.get(replay_at__isnull=False).run_id == run.pk
    assert "1 dead letters delivered." in call("wfe_outbox", "--flush").lines


@pytest.mark.parametrize("arguments", [("--run", str(uuid.UUID(int=1))), ("--type", "run.failed")])
def test_filters_of_a_replay_need_a_replay(hearing: Hearing, arguments: tuple[str, str]) -> None:
    called = call("wfe_outbox", *arguments)

    assert called.code == 2
    assert "go with --replay" in called.error


def test_without_subscribers_it_says_so(kernel: Any) -> None:
    assert call("wfe_outbox").lines == ["Nobody hears of events: there is no plugin and no sink."]


def test_what_failed_and_will_be_tried_again_is_the_exit_code(clock: FakeClock, known: Callable[..., Any]) -> None:
    known(CHAIN)
    with Hearing(clock, tries=2, mailer={}) as patient:
        patient["mailer"].refuses = lambda event: True
        new_run()

        called = call("wfe_outbox", "--flush")

    assert called.code == 1
    assert "1 deliveries failed; they are tried again." in called.lines
