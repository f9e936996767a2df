from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import list_url, page_url
from tests.waits import batch, gifts, purchase, reminder
from workflow_engine import Completion, create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

Know = Callable[..., Any]
CONDITION = "weigh.amount &gt; 100"


def start(known: Know, host: InlineHost, workflow: Any, input: Any = None) -> WorkflowRun:
    run = create_run(known(workflow), input)
    host.drain()
    return run


def notes(page: str) -> list[str]:
    """Return what the boxes of the graph say below the names."""
    return re.findall(r'<text class="wfe-note"[^>]*>([^<]*)</text>', page)


def tips(page: str) -> list[str]:
    graph = page[page.index('<svg xmlns="http://www.w3.org/2000/svg" class="wfe-graph"') :]
    return re.findall(r"<title>([^<]*)</title>", graph[: graph.index("</svg>")])


def test_conditions_and_questions_of_the_plan_are_shown_before_the_run(known: Know, kernel: Any, chief: Client) -> None:
    run = create_run(known(purchase()), {"amount": 1})

    page = chief.get(page_url(run)).content.decode()

    assert notes(page) == ["Not begun", "only if weigh.amount &gt; 100", "Not begun"]
    assert tips(page)[1] == f"approve: not begun; only if {CONDITION}"
    assert f'<td class="wfe-mono">{CONDITION}</td>' in page
    assert "<td>manager, board</td>" in page


def test_a_stage_that_waits_for_an_answer_says_for_which_since_when_and_until_when(
    known: Know, host: InlineHost, chief: Client
) -> None:
    run = start(known, host, purchase(), {"amount": 200})

    page = chief.get(page_url(run)).content.decode()

    words = "waits for the answer &#x27;manager&#x27; until 2026-01-04 12:00:00 UTC"
    assert notes(page)[1] == "Suspended · answer &#x27;manager&#x27;"
    assert tips(page)[1] == f"approve: {words}; suspended since 2026-01-01 12:00:00"
    assert f"{words}; suspended since 2026-01-01 12:00:00</span>" in page
    assert f"Stage approve {words}." in page


def test_a_stage_that_sleeps_says_until_when(known: Know, host: InlineHost, chief: Client) -> None:
    page = chief.get(page_url(start(known, host, reminder()))).content.decode()

    assert notes(page) == ["Suspended · sleeps: 30 d"]
    assert "sleeps (&#x27;a-month&#x27;) until 2026-01-31 12:00:00 UTC; suspended since" in page


def test_a_stage_that_is_checked_says_how_often_when_again_and_how_the_last_check_failed(
    known: Know, host: InlineHost, chief: Client, clock: FakeClock
) -> None:
    def away() -> Completion[str]:
        raise ConnectionError("no <route>")

    run = start(known, host, batch(away))
    clock.advance(timedelta(seconds=30))
    host.drain()

    page = chief.get(page_url(run)).content.decode()
    row = chief.get(page_url(StageRun.objects.get())).content.decode()
    listed = chief.get(list_url("stagerun")).content.decode()
    attempts = chief.get(list_url("stageattempt")).content.decode()

    words = (
        "is checked again at 2026-01-01 12:00:40 UTC "
        "(1 check so far; the last one failed: ConnectionError: no &lt;route&gt;)"
    )
    assert notes(page) == ["Suspended · check: 10 s"]
    assert words in page and words in row and words in listed
    assert ('<td class="wfe-when">Body</td>' in page, '<td class="wfe-when">Check</td>' in page) == (True, True)
    assert list(StageAttempt.objects.order_by("id").values_list("kind", flat=True)) == ["body", "check"]
    assert "A completion check" in row
    assert ">Check<" in attempts
    assert '<span class="wfe-chip wfe-suspended">Suspended</span>' in listed


def test_a_check_under_way_is_shown(known: Know, host: InlineHost, chief: Client, beat: Any) -> None:
    run = start(known, host, batch(Completion.pending))
    StageRun.objects.update(worker=beat("batch"))

    assert notes(chief.get(page_url(run)).content.decode()) == ["Suspended · being checked"]


def test_a_skipped_stage_shows_its_condition(known: Know, host: InlineHost, chief: Client) -> None:
    page = chief.get(page_url(start(known, host, purchase(), {"amount": 1}))).content.decode()

    assert notes(page)[1] == "Skipped · only if weigh.amou…"
    assert tips(page)[1] == f"approve: its condition does not hold: {CONDITION}"
    assert f"its condition does not hold: {CONDITION}</span>" in page


def test_the_output_of_a_run_whose_last_stage_was_skipped_is_that_of_the_one_before(
    known: Know, host: InlineHost, chief: Client
) -> None:
    page = chief.get(page_url(start(known, host, gifts(), {"amount": 77}))).content.decode()

    assert page.count("&quot;amount&quot;: 77") == 2


def test_what_a_stage_was_suspended_with_is_for_holders_of_view_payload(
    known: Know, host: InlineHost, staff: Any
) -> None:
    start(known, host, batch(Completion.pending))
    row = StageRun.objects.get()

    hidden = staff("view_stagerun").get(page_url(row)).content.decode()
    shown = staff("view_stagerun", "view_payload").get(page_url(row)).content.decode()

    assert "&quot;batch&quot;: 1" not in hidden
    assert "&quot;batch&quot;: 1" in shown


def test_many_open_questions_cost_no_more_queries(known: Know, host: InlineHost, chief: Client) -> None:
    waiting, ended = start(known, host, purchase(), {"amount": 200}), create_run("purchase", {"amount": 1})
    chief.get(page_url(ended))

    with CaptureQueriesContext(connection) as few:
        chief.get(page_url(ended))
    with CaptureQueriesContext(connection) as many:
        chief.get(page_url(waiting))

    # Why a running run waits takes one look at its stages and one at the workers.
    assert len(many) <= len(few) + 1
