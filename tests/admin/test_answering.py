from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import ATTACK, list_url, page_url
from tests.waits import purchase, questionnaire
from workflow_engine import Wait, answer_stage, cancel_run, create_run, rerun_from
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

Know = Callable[..., Any]
GO = Wait("go", bool)
RIGHTS = ("view_workflowrun", "answer_stagerun")


@pytest.fixture
def waiting(known: Know, host: InlineHost) -> WorkflowRun:
    """Return a run that waits for the manager, and after that for the board."""
    run = create_run(known(purchase()), {"amount": 20_000})
    host.drain()
    run.refresh_from_db()
    return run


def answer_url(run: WorkflowRun) -> str:
    return reverse("admin:workflow_engine_workflowrun_answer", args=[run.pk])


def row_of(run: WorkflowRun, stage_id: str = "approve") -> StageRun:
    return StageRun.objects.get(run=run, stage=stage_id)


def filled(row: StageRun, **fields: Any) -> dict[str, Any]:
    """Return what a browser sends."""
    given = {f"answer-{name}": value for name, value in fields.items()}
    return {"stage_run": str(row.pk), "wait": row.wait_name, **given}


def test_the_page_of_a_waiting_run_has_a_form_made_of_the_wait(waiting: WorkflowRun, staff: Any) -> None:
    page = staff(*RIGHTS).get(page_url(waiting)).content.decode()

    assert answer_url(waiting) in page
    assert "Answer “manager” for stage approve" in page
    assert "Shall we buy it?" in page
    assert "After 3 d without an answer the stage fails." in page
    assert "What is to become of it" in page
    assert re.search(r'<select name="answer-outcome"[^>]*>\s*<option value="" selected', page)
    assert re.search(r'<textarea name="answer-note"', page)


def test_a_wrong_answer_to_a_closed_question_is_told_that_it_is_closed(
    waiting: WorkflowRun, host: InlineHost, staff: Any
) -> None:
    row = row_of(waiting)
    answer_stage(waiting, "approve", {"outcome": "rejected"})

    answer = staff(*RIGHTS).post(answer_url(waiting), filled(row, outcome="no such choice"), follow=True)

    page = answer.content.decode()
    assert "Stage approve does not wait for the answer &#x27;manager&#x27; any more; nothing was changed." in page
    assert "See the form below" not in page
    assert StageMemo.objects.count() == 1


def test_an_answer_is_given_in_the_name_of_the_user_and_shown_with_its_time(
    waiting: WorkflowRun, host: InlineHost, staff: Any
) -> None:
    client = staff(*RIGHTS)

    answer = client.post(
        answer_url(waiting), filled(row_of(waiting), outcome="0", note=f"a\r\nb {ATTACK}"), follow=True
    )
    host.drain()

    memo, page = StageMemo.objects.get(), answer.content.decode()
    assert memo.get_value() == {"outcome": "approved", "note": f"a\nb {ATTACK}"}
    assert memo.actor == OutboxEvent.objects.get(type="stage.answered").payload["actor"]
    assert memo.actor == "staff-view_workflowrun-answer_stagerun"
    assert answer.redirect_chain == [(page_url(waiting), 302)]
    assert "Stage approve has its answer and goes on." in page
    assert f"<td>{memo.actor}</td>" in page
    assert "2026-01-01 12:00:00" in page
    assert row_of(waiting).wait_name == "board"


def test_answers_of_before_a_rerun_are_told_from_those_of_now(
    known: Know, host: InlineHost, clock: FakeClock, staff: Any
) -> None:
    run = create_run(known(purchase()), {"amount": 200})
    host.drain()
    for outcome in ("rejected", "approved"):
        answer_stage(run, "approve", {"outcome": outcome})
        host.drain()
        if outcome == "rejected":
            rerun_from(run, "approve")
            host.drain()

    page = staff(*RIGHTS).get(page_url(run)).content.decode()

    answers = page.split("Answers <span")[1].split("</table>")[0]
    assert re.findall(r"generation (\d)", answers) == ["0", "1"]


def test_what_does_not_fit_is_said_next_to_the_field_and_nothing_moves_or_is_lost(
    known: Know, host: InlineHost, chief: Client
) -> None:
    run = create_run(known(questionnaire()))
    host.drain()
    wrong = {"text": "x", "count": "0", "price": "12.50", "kind": "1", "day": "2026-02-30", "rest": "[1,"}

    typed = chief.post(answer_url(run), filled(row_of(run, "fill-in"), **wrong))
    right_kinds = {**wrong, "day": "2026-02-03", "rest": '["x"]'}
    refused = chief.post(answer_url(run), filled(row_of(run, "fill-in"), **right_kinds))

    assert (typed.status_code, refused.status_code) == (422, 422)
    first, second = typed.content.decode(), refused.content.decode()
    assert "Enter a valid date." in first
    assert "This is not JSON" in first
    assert errors_of(second) == {
        "text": "String should have at least 2 characters",
        "count": "Input should be greater than or equal to 1",
        "yes": "Field required",
        "rest": "0: Input should be a valid integer, unable to parse string as an integer",
    }
    assert 'value="12.50"' in second
    assert re.search(r'<option value="1" selected>2</option>', second)
    assert not StageMemo.objects.exists()
    assert row_of(run, "fill-in").status == "SUSPENDED"


def errors_of(page: str) -> dict[str, str]:
    """Return the errors by the field next to which they stand."""
    found = {}
    for block in page.split('<div class="wfe-field')[1:]:
        name = re.search(r'name="answer-([^"]+)"', block)
        error = re.search(r'<ul class="errorlist"[^>]*><li>([^<]+)</li>', block)
        if name and error:
            found[name[1]] = error[1]
    return found


def test_every_kind_of_field_comes_to_the_stage_as_its_type_says(known: Know, host: InlineHost, chief: Client) -> None:
    run = create_run(known(questionnaire()))
    host.drain()
    page = chief.get(page_url(run)).content.decode()
    fields = {
        "text": " two  words ",
        "count": "3",
        "ratio": "0.25",
        "price": "12.50",
        "yes": "1",
        "maybe": "0",
        "kind": "1",
        "colour": "0",
        "day": "2026-02-03",
        "moment": "2026-02-03T04:05:06",
        "rest": "[1, 2]",
    }

    answer = chief.post(answer_url(run), filled(row_of(run, "fill-in"), **fields))
    host.drain()

    run.refresh_from_db()
    assert answer.status_code == 302
    assert run.get_output() == {
        "text": " two  words ",
        "count": 3,
        "ratio": 0.25,
        "price": "12.50",
        "yes": False,
        "maybe": True,
        "kind": 2,
        "colour": "red",
        "day": "2026-02-03",
        "moment": "2026-02-03T04:05:06Z",
        "rest": [1, 2],
    }
    assert re.search(r'type="date" name="answer-day"', page)
    assert re.search(r'type="datetime-local" name="answer-moment"', page)
    assert re.search(r'<option value="1" selected>blue</option>', page)
    assert re.search(r'name="answer-ratio" value="0.5"', page)


def test_what_was_left_out_takes_its_default(known: Know, host: InlineHost, chief: Client) -> None:
    run = create_run(known(questionnaire()))
    host.drain()
    fields = {"text": "ab", "count": "3", "price": "1", "yes": "0", "kind": "0", "day": "2026-02-03", "ratio": ""}

    chief.post(answer_url(run), filled(row_of(run, "fill-in"), **fields))
    host.drain()

    run.refresh_from_db()
    output = run.get_output()
    assert (output["ratio"], output["maybe"], output["colour"], output["moment"]) == (0.5, None, "blue", None)
    assert output["rest"] == []


@pytest.mark.parametrize(
    ("type", "given", "value"),
    [
        (bool, {"answer": "0"}, True),
        (str, {"answer": "words"}, "words"),
        (str, {}, ""),
        (int | None, {"answer": ""}, None),
        (dict[str, int], {"answer": '{"a": 1}'}, {"a": 1}),
        (None, {}, None),
        (Any, {"answer": "[null]"}, [None]),
    ],
    ids=str,
)
def test_an_answer_that_is_no_object_has_one_field(
    type: Any, given: Any, value: Any, known: Know, host: InlineHost, chief: Client
) -> None:
    wait: Wait[Any] = Wait("go", type)

    @stage("ask", waits=[wait])
    def ask(ctx: StageContext[None]) -> Any:
        return ctx.wait_for(wait)

    run = create_run(known(define_workflow("asks").pipe(ask).build()))
    host.drain()
    page = chief.get(page_url(run)).content.decode()

    answer = chief.post(answer_url(run), filled(row_of(run, "ask"), **given))
    host.drain()

    run.refresh_from_db()
    assert (answer.status_code, run.status, run.get_output()) == (302, "COMPLETED", value)
    assert page.count('<div class="wfe-field') == (0 if type is None else 1)


@pytest.mark.parametrize(
    ("rights", "status"),
    [
        ((), 403),
        (("view_workflowrun",), 403),
        (("answer_stagerun",), 403),
        (("view_workflowrun", "cancel_workflowrun", "view_payload", "view_stagerun", "view_stagememo"), 403),
        (RIGHTS, 302),
    ],
)
def test_answering_needs_its_permission_and_the_one_to_look(
    rights: Any, status: int, waiting: WorkflowRun, staff: Any
) -> None:
    client = staff(*rights)

    shown = client.get(page_url(waiting))
    answer = client.post(answer_url(waiting), filled(row_of(waiting), outcome="0"))

    assert answer.status_code == status
    assert StageMemo.objects.exists() == (status == 302)
    if shown.status_code == 200:
        assert (answer_url(waiting) in shown.content.decode()) == (status == 302)


def test_answering_needs_the_token_against_forged_requests(waiting: WorkflowRun) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("chief"))

    assert client.post(answer_url(waiting), filled(row_of(waiting), outcome="0")).status_code == 403
    assert not StageMemo.objects.exists()


def test_answering_is_no_get_and_strangers_are_asked_to_log_in(waiting: WorkflowRun, chief: Client) -> None:
    assert chief.get(answer_url(waiting)).status_code == 405
    assert Client().post(answer_url(waiting), filled(row_of(waiting), outcome="0")).status_code == 302
    assert not StageMemo.objects.exists()


def test_a_stage_run_of_another_run_or_none_is_404(
    waiting: WorkflowRun, known: Know, host: InlineHost, chief: Client
) -> None:
    other = create_run("purchase", {"amount": 200})
    host.drain()

    forged = [
        filled(row_of(other), outcome="0"),
        {**filled(row_of(waiting), outcome="0"), "stage_run": str(uuid.uuid4())},
        {**filled(row_of(waiting), outcome="0"), "stage_run": "\x00"},
        {},
    ]

    assert [chief.post(answer_url(waiting), fields).status_code for fields in forged] == [404] * 4
    assert not StageMemo.objects.exists()


def test_a_form_for_what_is_answered_already_says_so_and_answers_nothing_else(
    waiting: WorkflowRun, host: InlineHost, chief: Client
) -> None:
    old = filled(row_of(waiting), outcome="0")
    answer_stage(waiting, "approve", {"outcome": "rejected"}, actor="ada")
    host.drain()

    late = chief.post(answer_url(waiting), old, follow=True).content.decode()
    unknown = chief.post(answer_url(waiting), {**old, "wait": ATTACK}, follow=True).content.decode()

    assert "The wait &#x27;manager&#x27; of stage &#x27;approve&#x27; is answered already" in late
    assert "The code here declares no such wait for stage approve." in unknown
    assert StageMemo.objects.get().get_value()["outcome"] == "rejected"


def test_a_run_that_has_ended_has_no_form_and_takes_no_answer(waiting: WorkflowRun, chief: Client) -> None:
    fields = filled(row_of(waiting), outcome="0")
    cancel_run(waiting)

    answer = chief.post(answer_url(waiting), fields, follow=True).content.decode()

    assert "does not wait for this answer: the run is CANCELLED" in answer
    assert '<section class="wfe-question"' not in answer


def test_code_that_does_not_know_the_question_says_so(waiting: WorkflowRun, chief: Client) -> None:
    with registry_override():
        page = chief.get(page_url(waiting)).content.decode()

    assert "The code here does not know this question" in page
    assert answer_url(waiting) not in page


def test_of_very_many_open_questions_the_first_are_shown_and_the_others_counted(
    known: Know, host: InlineHost, chief: Client
) -> None:
    def ask(number: int) -> Any:
        @stage(f"ask-{number}", waits=[GO])
        def asks(ctx: StageContext[None]) -> bool:
            return ctx.wait_for(GO)

        return asks

    run = create_run(known(define_workflow("crowd").parallel(*map(ask, range(22))).build()))
    host.drain()
    last = row_of(run, "ask-21")

    page = chief.get(page_url(run)).content.decode()
    wrong = chief.post(answer_url(run), filled(last, answer="7")).content.decode()

    assert page.count('<section class="wfe-question"') == 20
    assert "2 more questions are open: answer these first." in page
    assert f'id="question-{last.pk}"' not in page
    assert f'id="question-{last.pk}"' in wrong
    assert "Select a valid choice. 7 is not one of the available choices." in wrong


def test_an_answer_by_default_is_shown_as_such(
    waiting: WorkflowRun, host: InlineHost, chief: Client, clock: FakeClock
) -> None:
    answer_stage(waiting, "approve", {"outcome": "approved"}, actor=f"ada {ATTACK}")
    host.drain()
    assert "goes on with the default one" in chief.get(page_url(waiting)).content.decode()
    clock.advance(timedelta(days=1))
    host.drain()

    page = chief.get(page_url(waiting)).content.decode()

    assert "by default: nobody answered in time" in page
    assert "ada &lt;script&gt;" in page
    assert ATTACK not in page


def test_what_the_definition_and_the_answer_say_is_no_markup(known: Know, host: InlineHost, chief: Client) -> None:
    from pydantic import BaseModel, Field

    class Nasty(BaseModel):
        one: str = Field(default=ATTACK, description=f"about {ATTACK}", title=f"title {ATTACK}", alias=f'">{ATTACK}')

    wait: Wait[Any] = Wait("nasty", Nasty, description=f"why {ATTACK}")

    @stage("ask", waits=[wait])
    def ask(ctx: StageContext[None]) -> Any:
        return ctx.wait_for(wait).one

    run = create_run(known(define_workflow("asks").pipe(ask).build()))
    host.drain()
    page = chief.get(page_url(run)).content.decode()
    again = chief.post(answer_url(run), filled(row_of(run, "ask"), **{f'">{ATTACK}': f"\x00{ATTACK}"}))

    assert ATTACK not in page
    assert {"about &lt;script&gt;", "title &lt;script&gt;", "why &lt;script&gt;"} <= set(
        re.findall(r"(?:about|title|why) &lt;script&gt;", page)
    )
    assert again.status_code == 422
    assert ATTACK not in again.content.decode()
    assert "Null characters are not allowed." in again.content.decode()


def test_answers_themselves_are_for_holders_of_view_payload(waiting: WorkflowRun, host: InlineHost, staff: Any) -> None:
    answer_stage(waiting, "approve", {"outcome": "approved", "note": f"between us {ATTACK}"}, actor="ada")
    memo = StageMemo.objects.get()
    viewer = staff("view_workflowrun", "view_stagememo")
    reader = staff("view_workflowrun", "view_stagememo", "view_payload")

    hidden = [viewer.get(url).content.decode() for url in (page_url(waiting), page_url(memo), list_url("stagememo"))]
    shown = reader.get(page_url(memo)).content.decode()

    assert not any("between us" in page for page in hidden)
    assert "ada" in hidden[0] and "ada" in hidden[1]
    assert "between us &lt;script&gt;" in shown


def test_the_form_is_the_one_of_the_wait_that_is_asked_now(
    waiting: WorkflowRun, host: InlineHost, chief: Client
) -> None:
    answer_stage(waiting, "approve", {"outcome": "approved"})
    host.drain()

    page = chief.get(page_url(waiting)).content.decode()

    assert "Answer “board” for stage approve" in page
    assert "Answer “manager”" not in page
