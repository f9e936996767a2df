"""Maps in the admin: a stage is shown once, its items are a link away."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin.conftest import list_url, page_url
from tests.maps import Importer
from tests.part_way import half_imported, reviews, until_items_ended
from workflow_engine import StageContext, create_run, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageRun, WorkflowRun

Know = Callable[..., Any]


@pytest.fixture
def under_way(known: Know, host: InlineHost) -> WorkflowRun:
    return half_imported(known, host)


@pytest.fixture
def ended(under_way: WorkflowRun, host: InlineHost) -> WorkflowRun:
    host.drain()
    under_way.refresh_from_db()
    return under_way


def read(client: Client, address: str, query: Any = None) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return answer.content.decode()


def links(page: str) -> dict[str, str]:
    """Return the addresses of the links to items, by their text."""
    found = re.findall(r'<a href="([^"]*rows=items[^"]*)">([^<]*)</a>', page)
    return {text: html.unescape(address) for address, text in found}


def indexes(page: str) -> list[str]:
    return re.findall(r'<td class="field-item_number">([^<]*)</td>', page)


def test_a_mapped_stage_is_one_line_with_its_counts_and_a_bar(under_way: WorkflowRun, chief: Client) -> None:
    page = read(chief, page_url(under_way))

    words = "8 of 20 items are done, 2 failed, 4 are under way"
    (line,) = re.findall(r'<tr id="stage-import-line">.*?</tr>', page, re.DOTALL)
    assert words in line
    assert '<span class="wfe-chip wfe-running">Items run</span>' in line
    assert re.findall(r'class="wfe-fill wfe-(\w+)" x="([\d.]+)"[^>]* width="([\d.]+)"', line) == [
        ("completed", "0", "48"),
        ("failed", "48", "12"),
        ("running", "60", "24"),
    ]
    assert f"Stage import-line: {words}." in page
    assert '<text class="wfe-note" x="14" y="39">8 of 20, 2 failed</text>' in page
    assert "9999" not in page


def test_the_items_are_listed_in_their_order_and_failed_ones_are_found(under_way: WorkflowRun, chief: Client) -> None:
    found = links(read(chief, page_url(under_way)))

    every, failed = read(chief, found["20 items"]), read(chief, found["2 failed"])

    assert indexes(every) == [f"#{index}" for index in range(20)]
    assert indexes(failed) == ["#1", "#3"]
    assert "Unlucky: line 1" in failed
    assert every.count("after other items") == 6
    assert "9999" not in every
    assert dict(parse_qsl(urlsplit(found["2 failed"]).query))["status__exact"] == "FAILED"


def test_stages_of_a_run_are_listed_without_items(under_way: WorkflowRun, chief: Client) -> None:
    page = read(chief, list_url("stagerun"), {"run": str(under_way.pk), "rows": "stages"})

    assert indexes(page) == ["-", "-"]
    assert "8 of 20 items are done, 2 failed, 4 are under way" in page


def test_a_run_that_is_no_id_has_no_rows(under_way: WorkflowRun, chief: Client) -> None:
    assert indexes(read(chief, list_url("stagerun"), {"run": "nobody"})) == []


def test_the_page_of_an_item_shows_what_it_got_and_gave(
    known: Know, host: InlineHost, staff: Callable[..., Client]
) -> None:
    @stage("shout")
    def shout(ctx: StageContext[str]) -> str:
        return ctx.input.upper()

    create_run(known(define_workflow("shouts", input=list[str]).map(shout).build()), ["quiet words"])
    host.drain()
    item = StageRun.objects.get(map_index=0)

    shown = read(staff("view_stagerun", "view_payload"), page_url(item))
    hidden = read(staff("view_stagerun"), page_url(item))

    assert "#0" in hidden
    assert "quiet words" in shown and "QUIET WORDS" in shown
    assert "quiet words" not in hidden and "QUIET WORDS" not in hidden


def test_an_item_that_is_held_back_is_not_due_at_any_time(under_way: WorkflowRun, chief: Client) -> None:
    page = read(chief, page_url(StageRun.objects.get(run=under_way, map_index=19)))

    assert "after other items" in page
    assert "9999" not in page


def test_the_output_of_a_map_is_its_count_and_the_first_few(
    known: Know, host: InlineHost, staff: Callable[..., Client]
) -> None:
    importer = Importer()
    importer.bad = {1}
    lines, import_line, _ = importer.stages
    known(define_workflow("ends", input=int).pipe(lines).map(import_line, on_item_error="collect").build())
    run = create_run("ends", 30)
    host.drain()
    client = staff("view_workflowrun", "view_stagerun", "view_payload")

    for page in (page_url(run), page_url(StageRun.objects.get(run=run, stage="import-line", map_index=-1))):
        text = html.unescape(read(client, page))
        assert "30 items, 1 of them without an output" in text
        assert "#0  0\n#1  Unlucky: line 1\n#2  20\n#3  30\n#4  40\n… and 25 more" in text


def test_the_page_asks_and_reads_the_same_whatever_the_number_of_items(
    known: Know, host: InlineHost, chief: Client
) -> None:
    runs = []
    for size in (5, 40):
        importer = Importer(f"importer-{size}", max_parallel=4, on_item_error="collect")
        importer.bad = {1}
        runs.append(create_run(known(importer.workflow), size))
        until_items_ended(host, runs[-1], 3)
    read(chief, page_url(runs[0]))

    for drain in (False, True):
        if drain:
            host.drain()
        counts, sizes = [], []
        for run in runs:
            with CaptureQueriesContext(connection) as queries:
                page = read(chief, page_url(run))
            counts.append(len(queries))
            sizes.append(page.count('<tr id="stage-'))
        assert counts[0] == counts[1]
        assert sizes == ([3, 3] if drain else [2, 2])
    lists = []
    for query in ({"run": str(runs[0].pk)}, {"run": str(runs[1].pk)}):
        with CaptureQueriesContext(connection) as queries:
            read(chief, list_url("stagerun"), query)
        lists.append(len(queries))
    assert lists[0] == lists[1]


def test_the_list_of_runs_looks_at_stages_only(under_way: WorkflowRun, chief: Client) -> None:
    page = read(chief, list_url("workflowrun"))

    assert "1/3" in page
    assert '<td class="field-current_stage">import-line</td>' in page


def test_attempts_of_items_tell_which(ended: WorkflowRun, chief: Client) -> None:
    attempts = read(chief, page_url(ended)).split("<h2>Attempts")[1].split("<h2>")[0]

    assert re.findall(r'<span class="wfe-quiet">(#\d+)</span>', attempts) == [f"#{index}" for index in range(20)]


def test_the_form_of_an_answer_shows_for_which_item_it_is(
    known: Know, host: InlineHost, staff: Callable[..., Client]
) -> None:
    run = create_run(known(reviews()), ["first text", "second text"])
    host.drain()
    client = staff("view_workflowrun", "answer_stagerun", "view_payload")
    blind = staff("view_workflowrun", "answer_stagerun")

    page = read(client, page_url(run))
    row = StageRun.objects.get(run=run, map_index=1)
    body = {"stage_run": str(row.pk), "wait": "look", "answer-answer": "0"}
    answered = client.post(
        reverse("admin:workflow_engine_workflowrun_answer", args=[run.pk]), body, follow=True
    ).content.decode()

    assert [item in page for item in ("for stage review #0", "for stage review #1")] == [True, True]
    assert "&quot;second text&quot;" in page
    assert "second text" not in read(blind, page_url(run))
    assert "Stage review #1 has its answer and goes on." in answered
    assert "for stage review #1" not in answered
    row.refresh_from_db()
    assert row.status == "PENDING"


def test_of_many_items_that_ask_some_are_shown_and_the_others_counted(
    known: Know, host: InlineHost, chief: Client
) -> None:
    run = create_run(known(reviews()), [f"text {number}" for number in range(30)])
    host.drain()

    page = read(chief, page_url(run))

    assert page.count('<section class="wfe-question"') == 20
    assert "10 more questions are open" in page


def test_an_answer_that_does_not_fit_is_shown_again_for_its_item(known: Know, host: InlineHost, chief: Client) -> None:
    run = create_run(known(reviews()), [f"text {number}" for number in range(30)])
    host.drain()
    row = StageRun.objects.get(run=run, map_index=29)

    answer = chief.post(
        reverse("admin:workflow_engine_workflowrun_answer", args=[run.pk]),
        {"stage_run": str(row.pk), "wait": "look", "answer-answer": ""},
    )

    page = answer.content.decode()
    assert answer.status_code == 422
    assert page.index("for stage review #29") < page.index("for stage review #0")


def rerun_url(run: WorkflowRun) -> str:
    return reverse("admin:workflow_engine_workflowrun_rerun", args=[run.pk])


def test_failed_items_run_again_alone_once_that_is_chosen(
    ended: WorkflowRun, host: InlineHost, staff: Callable[..., Client]
) -> None:
    client = staff("view_workflowrun", "rerun_workflowrun")

    whole = read(client, rerun_url(ended), {"stage": "import-line"})
    (choice,) = re.findall(r'<a href="(\?stage=import-line&amp;items=failed)">([^<]*)</a>', whole)
    failed = read(client, rerun_url(ended) + html.unescape(choice[0]))
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', failed))
    client.post(rerun_url(ended), form)

    assert choice[1] == "Only the 2 items that have not succeeded"
    assert "all its 20 items" in whole
    assert "2 of its 20 items; the others keep their results" in failed
    assert "Rerun 2 items of import-line" in failed
    ended.refresh_from_db()
    assert (ended.status, ended.generation) == ("RUNNING", 1)
    again = StageRun.objects.filter(run=ended, generation=1, map_index__gt=-1)
    assert sorted(again.values_list("map_index", flat=True)) == [1, 3]
    assert "18 of 20 items are done, 2 are under way" in read(client, page_url(ended))


def test_the_whole_stage_runs_again_if_that_is_chosen(ended: WorkflowRun, chief: Client) -> None:
    page = read(chief, rerun_url(ended), {"stage": "import-line"})

    chief.post(rerun_url(ended), dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)))

    assert not StageRun.objects.filter(run=ended, superseded_at=None, map_index__gt=-1).exists()


def test_there_is_no_such_choice_where_no_item_has_failed(known: Know, host: InlineHost, chief: Client) -> None:
    run = create_run(known(Importer().workflow), 3)
    host.drain()

    assert "items=failed" not in read(chief, rerun_url(run), {"stage": "import-line"})
    assert "items=failed" not in read(chief, rerun_url(run), {"stage": "lines"})
    refused = chief.get(rerun_url(run), {"stage": "import-line", "items": "failed"}, follow=True)
    assert "none of its items has failed" in refused.content.decode()
