"""What commands say of suspended and skipped stages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.management.calling import Terminal, call
from tests.waits import batch, hasty, purchase, reminder
from workflow_engine import Completion, create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.management.changes import changed, in_words
from workflow_engine.management.looking import StageLine, stages_of
from workflow_engine.models import WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
Know = Callable[..., Any]


def start(known: Know, host: InlineHost, workflow: Any, input: Any = None) -> WorkflowRun:
    run = create_run(known(workflow), input)
    host.drain()
    run.refresh_from_db()
    return run


def test_a_run_shows_what_its_stage_waits_for_and_how_to_answer_it(known: Know, host: InlineHost) -> None:
    run = start(known, host, purchase(), {"amount": 200})

    called = call("wfe_status", str(run.pk))

    words = "waits for the answer 'manager' until 2026-01-04 12:00:00 UTC"
    assert any(re.match(rf"approve +SUSPENDED +1 +{re.escape(words)}$", line) for line in called.lines)
    assert f"now         Stage approve {words}." in called.lines
    assert f"Answer it with: manage.py wfe_answer {run.pk} approve --data JSON" in called.lines
    shown = call("wfe_status", str(run.pk), "--json").json["stages"][1]
    assert shown["when"] == "weigh.amount > 100"
    assert shown["suspended"] == {
        "waits_for": "answer",
        "wait": "manager",
        "words": words,
        "suspended_at": "2026-01-01T12:00:00Z",
        "wake_at": "2026-01-04T12:00:00Z",
        "wait_until": "2026-01-04T12:00:00Z",
        "polls": 0,
        "check_errors": 0,
        "child_run_id": None,
    }


def test_conditions_are_shown_before_and_after(known: Know, kernel: Any, host: InlineHost) -> None:
    run = create_run(known(purchase()), {"amount": 1})
    before = call("wfe_status", str(run.pk)).out
    host.drain()
    after = call("wfe_status", str(run.pk)).out

    assert re.search(r"approve +NOT STARTED +only if weigh\.amount > 100\n", before)
    assert re.search(r"approve +SKIPPED +its condition does not hold: weigh\.amount > 100\n", after)


def test_the_overview_counts_what_is_suspended_by_what_it_waits_for(known: Know, host: InlineHost) -> None:
    known(purchase(), reminder(), batch(Completion.pending))
    for name, input in (("purchase", {"amount": 200}), ("purchase", {"amount": 300}), ("reminder", None)):
        create_run(name, input)
    create_run("batch")
    host.drain()

    everything, one = call("wfe_status"), call("wfe_status", "--workflow", "purchase", "--json")

    expected = "Suspended stages: 1 waiting for a check, 2 waiting for an answer, 1 sleeping"
    assert expected in everything.lines
    assert one.json["suspended"] == {"poll": 0, "answer": 2, "timer": 0, "items": 0, "child": 0}


def test_what_happens_to_a_suspended_stage_is_told_in_words(known: Know, host: InlineHost, clock: FakeClock) -> None:
    def away() -> Completion[str]:
        raise ConnectionError("no route")

    run = start(known, host, batch(away))
    first = stages_of(run)
    clock.advance(timedelta(seconds=30))
    host.drain()
    second = stages_of(run)

    assert in_words(None, first[0]) == "suspended: is checked for the first time at 2026-01-01 12:00:30 UTC"
    assert [in_words(old, line) for old, line in changed(first, second)] == [
        "suspended: is checked again at 2026-01-01 12:00:40 UTC "
        "(1 check so far; the last one failed: ConnectionError: no route)"
    ]
    assert in_words(second[0], StageLine("submit", "PENDING", attempt=1)) == "goes on"
    assert not list(changed(second, second))


def test_a_skipped_stage_is_told_with_its_condition() -> None:
    skipped = StageLine("a", "SKIPPED", when="b.c == 'd'")

    assert in_words(None, skipped) == "skipped: its condition does not hold: b.c == 'd'"


@pytest.mark.django_db(transaction=True)
def test_watching_tells_suspended_and_skipped_stages(known: Know) -> None:
    known(hasty())

    called = call("wfe_run", "hasty", "--input", '{"amount": 1}', "--watch")

    assert called.code == 0
    assert re.search(r"hurry    suspended: waits for the answer 'anybody' until \d{4}-", called.out)
    assert re.search(r"hurry    (goes on|started, attempt 2|completed)", called.out)
    assert "approve  skipped: its condition does not hold: weigh.amount < 0" in called.out


@pytest.mark.django_db(transaction=True)
def test_without_watching_only_questions_are_told_and_how_to_answer_them(known: Know) -> None:
    known(hasty())

    called = call("wfe_run", "hasty", "--input", '{"amount": 1}')
    as_json = call("wfe_run", "hasty", "--input", '{"amount": 1}', "--json")

    run_id = called.lines[0].removeprefix("Run ")
    assert re.match(
        rf"Stage hurry waits for the answer 'anybody' until .*\. "
        rf"Answer it with: manage\.py wfe_answer {run_id} hurry --data JSON$",
        called.lines[1],
    )
    assert called.lines[2].startswith("COMPLETED after")
    assert len(as_json.lines) == 1
    assert as_json.error.startswith("Stage hurry waits for the answer 'anybody'")


@pytest.mark.django_db(transaction=True)
def test_the_table_of_a_terminal_shows_them_too(known: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    known(hasty())

    called = call("wfe_run", "hasty", "--input", '{"amount": 1}', "--watch", out=Terminal())

    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", called.out)
    assert re.search(r"‖  hurry +1 .*waits for the answer 'anybody' until", shown)
    assert re.search(r"↷  approve .*its condition does not hold: weigh\.amount < 0", shown)
