"""``FlushOutbox``: in order per run, at least once, to every subscriber by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from tests.outbox.hearing import CHAIN, EVENTS_OF_CHAIN, Hearing, new_run
from workflow_engine import cancel_run
from workflow_engine.definitions import RunEvent
from workflow_engine.errors import SubscriberNotFound
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import delivering
from workflow_engine.kernel.commands import FlushOutbox, ReplayDeadLetters
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent
from workflow_engine.models.dead_letters import DeadLetterQuerySet
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
Listen = Callable[..., Hearing]


@pytest.fixture
def listen(clock: FakeClock, known: Any) -> Iterator[Listen]:
    """Return a function that enters subscribers, given by name with their filters."""
    known(CHAIN)
    entered: list[Hearing] = []

    def enter(*names: str, tries: int = 3, **filters: dict[str, Any]) -> Hearing:
        hearing = Hearing(clock, tries=tries, **{name: {} for name in names}, **filters).__enter__()
        entered.append(hearing)
        return hearing

    yield enter
    for hearing in reversed(entered):
        hearing.__exit__(None, None, None)


def only(event_type: str) -> Callable[[RunEvent], bool]:
    return lambda event: event.type == event_type


def test_events_come_in_order_once_and_leave_nothing_behind(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()
    InlineHost(hearing.kernel).drain()

    made = hearing.flush()

    assert (made.delivered, made.failed, made.handed_on, made.more) == (EVENTS_OF_CHAIN, 0, EVENTS_OF_CHAIN, False)
    assert hearing["sink"].heard(run) == list(range(1, EVENTS_OF_CHAIN + 1))
    assert hearing.flush().delivered == 0
    assert not EventCursor.objects.exists()
    assert not OutboxEvent.objects.filter(pending=True).exists()


def test_what_a_subscriber_gets_is_what_happened(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()
    hearing.flush()

    (event,) = hearing["sink"].events
    row = OutboxEvent.objects.get()

    assert event == RunEvent(
        id=f"{run.pk}:1",
        run_id=run.pk,
        workflow_id="chain",
        sequence=1,
        generation=0,
        type="run.created",
        payload={"workflow_id": "chain"},
        causation_id=row.causation_id,
        occurred_at=row.occurred_at,
    )


def test_without_a_subscriber_nothing_is_kept_for_delivery(kernel: Any, known: Any) -> None:
    known(CHAIN)
    new_run()

    assert not OutboxEvent.objects.filter(pending=True).exists()
    assert kernel.dispatch(FlushOutbox()).handed_on == 0


def test_only_what_somebody_wants_is_kept_for_delivery(listen: Listen) -> None:
    hearing = listen(ends={"types": frozenset({"run.completed"})}, other={"workflows": frozenset({"another"})})
    run = new_run()
    InlineHost(hearing.kernel).drain()

    hearing.flush()

    assert hearing["ends"].types == ["run.completed"]
    assert hearing["ends"].heard(run) == [EVENTS_OF_CHAIN]
    assert hearing["other"].events == []


def test_a_subscriber_of_types_leaves_the_others_unmarked(listen: Listen) -> None:
    listen(ends={"types": frozenset({"run.completed"})})
    new_run()

    assert not OutboxEvent.objects.filter(pending=True).exists()


def test_a_new_subscriber_starts_at_now(listen: Listen) -> None:
    first = listen("first")
    run = new_run()
    first.flush()
    both = listen("first", "second")
    cancel_run(run)

    both.flush()

    assert both["second"].types == both["first"].types == ["run.cancelled"]


def test_a_failure_keeps_the_order_of_its_run_and_delays_no_other(listen: Listen) -> None:
    hearing = listen("sink")
    bad, good = new_run(), new_run()
    InlineHost(hearing.kernel).drain()
    sink = hearing["sink"]
    sink.refuses = lambda event: event.run_id == bad.pk and event.sequence == 2

    made = hearing.flush()

    assert (made.delivered, made.failed) == (1 + EVENTS_OF_CHAIN, 1)
    assert sink.heard(bad) == [1]
    assert sink.heard(good) == list(range(1, EVENTS_OF_CHAIN + 1))
    cursor = EventCursor.objects.get()
    assert (cursor.run_id, cursor.last_sequence, cursor.tries) == (bad.pk, 1, 1)
    assert cursor.error == "Refused: not run.started"
    # Later events of the run wait for it.
    assert hearing.flush().delivered == 0
    sink.refuses = lambda event: False
    hearing.wait(2)
    hearing.flush()
    assert sink.heard(bad) == list(range(1, EVENTS_OF_CHAIN + 1))


def test_what_failed_is_tried_again_ever_more_seldom(listen: Listen) -> None:
    hearing = listen("sink", tries=6)
    new_run()
    hearing["sink"].refuses = lambda event: True
    waits = []

    for _ in range(5):
        before = hearing.clock.now()
        assert hearing.flush().failed == 1
        cursor = EventCursor.objects.get()
        waits.append((cursor.due_at - before).total_seconds())
        hearing.clock.move_to(cursor.due_at)

    for number, wait in enumerate(waits):
        assert 0.8 * 2**number <= wait <= 1.2 * 2**number


def test_news_do_not_shorten_the_wait_after_a_failure(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()
    hearing["sink"].refuses = lambda event: True
    hearing.flush()
    due_at = EventCursor.objects.get().due_at
    cancel_run(run)

    assert hearing.flush().failed == 0

    cursor = EventCursor.objects.get()
    assert (cursor.due_at, cursor.target) == (due_at, 2)


def test_after_the_last_try_an_event_is_a_dead_letter_and_later_ones_go_on(listen: Listen) -> None:
    hearing = listen("sink", tries=3)
    run = new_run()
    InlineHost(hearing.kernel).drain()
    hearing["sink"].refuses = only("run.started")

    made = [hearing.flush()]
    for _ in range(2):
        hearing.wait(600)
        made.append(hearing.flush())

    assert [one.dead_lettered for one in made] == [0, 0, 1]
    assert hearing["sink"].heard(run) == [1, 3, 4, 5, 6, 7]
    assert hearing["sink"].asked[f"{run.pk}:2"] == 3
    letter = DeadLetter.objects.get()
    assert (letter.run_id, letter.sequence, letter.type, letter.subscriber) == (run.pk, 2, "run.started", "sink")
    assert (letter.tries, letter.error) == (3, "Refused: not run.started")
    assert not EventCursor.objects.exists()


def test_one_that_fails_is_not_the_others_matter(listen: Listen) -> None:
    hearing = listen("good", "bad", tries=2)
    run = new_run()
    hearing["bad"].refuses = lambda event: True

    for _ in range(4):
        hearing.flush()
        hearing.wait(600)

    assert hearing["good"].asked == {f"{run.pk}:1": 1}
    assert hearing["bad"].asked == {f"{run.pk}:1": 2}
    assert [letter.subscriber for letter in DeadLetter.objects.all()] == ["bad"]


def test_no_more_are_delivered_than_asked_for(listen: Listen) -> None:
    hearing = listen("sink")
    runs = [new_run() for _ in range(5)]

    made = hearing.flush(max=3)

    assert (made.delivered, made.more, len(hearing["sink"].events)) == (3, True, 3)
    hearing.flush_all()
    assert [hearing["sink"].heard(run) for run in runs] == [[1]] * 5


def test_a_long_run_does_not_hold_up_others(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "WINDOW", 2)
    hearing = listen("sink")
    long, short = new_run(), new_run()
    InlineHost(hearing.kernel).drain(long.pk)

    hearing.flush()

    assert hearing["sink"].heard(long) == [1, 2]
    assert hearing["sink"].heard(short) == [1]
    for _ in range(4):
        hearing.flush()
    assert hearing["sink"].heard(long) == list(range(1, EVENTS_OF_CHAIN + 1))
    assert not EventCursor.objects.exists()


def test_only_one_subscriber_is_served_if_it_is_named(listen: Listen) -> None:
    hearing = listen("one", "two")
    new_run()
    assert hearing.flush(subscriber="").handed_on == 1
    assert hearing["one"].events == hearing["two"].events == []

    made = hearing.flush(subscriber="two")

    assert (made.delivered, made.handed_on) == (1, 0)
    assert hearing["one"].events == []
    with pytest.raises(SubscriberNotFound, match=r"No subscriber .three. is known here\. Known: one, two"):
        hearing.flush(subscriber="three")


def test_whoever_dies_after_a_call_has_it_repeated_and_nothing_left_out(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()

    class Killed(BaseException):
        pass

    def dies(event: RunEvent) -> bool:
        raise Killed

    hearing["sink"].refuses = dies
    with pytest.raises(Killed):
        hearing.flush()
    hearing["sink"].refuses = lambda event: False
    # Its claim lasts: nobody else calls while it may still be at it.
    assert hearing.flush().delivered == 0
    hearing.wait(60)

    assert hearing.flush().delivered == 1

    assert hearing["sink"].heard(run) == [1]


def test_a_claim_that_was_over_writes_nothing_down(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()
    rows = EventCursor.objects.using("default")
    hearing.flush(subscriber="")
    now = hearing.clock.now()
    (late,) = rows.claim("sink", 5, now=now, lease=timedelta(seconds=1))
    hearing.wait(2)
    (mine,) = rows.claim("sink", 5, now=hearing.clock.now(), lease=timedelta(seconds=60))
    late.last_sequence = late.target

    assert rows.settle([late], now=hearing.clock.now()) == (set(), False)

    cursor = EventCursor.objects.get()
    assert (cursor.run_id, cursor.last_sequence, cursor.token) == (run.pk, 0, mine.token)


def test_what_comes_while_a_run_is_delivered_is_delivered_after_it(listen: Listen) -> None:
    hearing = listen("sink")
    run = new_run()

    def more_comes(event: RunEvent) -> bool:
        if event.sequence == 1:
            cancel_run(run)
            hearing.flush(subscriber="")
        return False

    hearing["sink"].refuses = more_comes
    hearing.flush()
    hearing.flush()

    assert hearing["sink"].heard(run) == [1, 2]
    assert not EventCursor.objects.exists()


@pytest.mark.parametrize("by", ["run_id", "event_type", "subscriber", "ids", "any"])
def test_dead_letters_are_delivered_again_if_asked_for(listen: Listen, by: str) -> None:
    hearing = listen("sink", "other", tries=1)
    run, another = new_run(), new_run()
    for sink in hearing.sinks.values():
        sink.refuses = lambda event: True
    cancel_run(another)
    hearing.flush_all()
    assert DeadLetter.objects.count() == 6
    for sink in hearing.sinks.values():
        sink.refuses = lambda event: False
    chosen = {
        "run_id": {"run_id": run.pk},
        "event_type": {"event_type": "run.cancelled"},
        "subscriber": {"subscriber": "other"},
        "ids": {"ids": tuple(DeadLetter.objects.order_by("pk").values_list("pk", flat=True)[:1])},
        "any": {},
    }[by]
    expected = {"run_id": 2, "event_type": 2, "subscriber": 3, "ids": 1, "any": 6}[by]

    assert hearing.kernel.dispatch(ReplayDeadLetters(**chosen)).replayed == expected
    made = hearing.flush()

    assert made.replayed == expected
    events = [event for sink in hearing.sinks.values() for event in sink.events]
    assert len(events) == expected
    assert all(event.is_replay for event in events)
    assert DeadLetter.objects.count() == 6 - expected


def test_a_replay_honours_its_limit_and_one_that_fails_again_stays_a_dead_letter(listen: Listen) -> None:
    hearing = listen("sink", tries=1)
    new_run(), new_run()
    hearing["sink"].refuses = lambda event: True
    hearing.flush()

    assert hearing.kernel.dispatch(ReplayDeadLetters(max=1)).replayed == 1
    made = hearing.flush()

    assert (made.replayed, made.failed) == (0, 1)
    assert sorted(DeadLetter.objects.values_list("tries", "replay_at")) == [(1, None), (2, None)]
    # It is not tried again by itself.
    assert hearing.flush().failed == 0


def test_the_doctor_finds_what_was_not_delivered_for_long(listen: Listen) -> None:
    hearing = listen("sink")
    new_run()

    def codes() -> set[str]:
        found = {finding.code for finding in examine(hearing.kernel.ports).findings}
        return {code for code in found if code.startswith(("event.", "delivery."))}

    assert codes() == set()
    hearing.wait(601)
    assert codes() == {"event.not_handed_on"}
    hearing.flush(subscriber="")
    assert codes() == set()
    hearing.wait(601)
    assert codes() == {"delivery.overdue"}
    hearing.flush()
    assert codes() == set()


def test_after_an_error_of_the_database_nothing_waits_for_the_claim_to_end(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = listen("sink")
    run = new_run()
    read = delivering._read

    def lost(*given: Any) -> Any:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(delivering, "_read", lost)
    with pytest.raises(OperationalError):
        hearing.flush()
    monkeypatch.setattr(delivering, "_read", read)

    assert hearing.flush().delivered == 1
    assert hearing["sink"].heard(run) == [1]


def test_what_was_delivered_before_an_error_is_not_delivered_again(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = listen("sink")
    runs = [new_run(), new_run()]
    deliver_run, broken = delivering._deliver_run, [runs[1].pk]

    def breaks(ports: Any, turn: Any, cursor: EventCursor, events: Any) -> None:
        if cursor.run_id in broken:
            raise OperationalError("the connection is lost")
        deliver_run(ports, turn, cursor, events)

    monkeypatch.setattr(delivering, "_deliver_run", breaks)
    with pytest.raises(OperationalError):
        hearing.flush()
    broken.clear()

    assert hearing.flush().delivered == 1
    assert [hearing["sink"].heard(run) for run in runs] == [[1], [1]]


def test_who_comes_too_late_for_dead_letters_reads_no_events(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    hearing = listen("sink", tries=1)
    new_run()
    hearing["sink"].refuses = lambda event: True
    hearing.flush()
    hearing.kernel.dispatch(ReplayDeadLetters())
    monkeypatch.setattr(DeadLetterQuerySet, "claim", lambda *given, **more: [])

    with CaptureQueriesContext(connection) as captured:
        made = hearing.flush(subscriber="sink")

    assert (made.replayed, made.failed) == (0, 0)
    assert not any("outboxevent" in query["sql"] for query in captured)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_is_a_failure_like_any_other(listen: Listen) -> None:
    hearing = listen("sink")
    new_run()

    def raises(event: RunEvent) -> bool:
        raise Unspeakable

    hearing["sink"].refuses = raises

    assert hearing.flush().failed == 1
    assert EventCursor.objects.get().error == "Unspeakable"


def test_the_wait_after_a_thousand_failures_is_five_minutes() -> None:
    assert timedelta(minutes=4) <= delivering._delay(2000) <= timedelta(minutes=6)
