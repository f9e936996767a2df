"""Runs that start runs, in the admin."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import list_url, page_url
from tests.families import Family
from tests.part_way import one_step
from workflow_engine import create_run, define_workflow, stage
from workflow_engine.definitions import StageContext
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageRun, WorkflowRun

Know = Callable[..., Any]


def read(client: Client, address: str, query: Any = None) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return answer.content.decode()


def listed(page: str) -> int:
    return page.count('<td class="field-short_id">') + page.count('<th class="field-short_id">')


def test_parent_and_child_lead_to_each_other(known: Know, host: InlineHost, chief: Client) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    one_step(host)
    child = WorkflowRun.objects.get(parent_run=run)

    up, down = read(chief, page_url(run)), read(chief, page_url(child))

    words = f"waits for its child run {child.pk} of workflow child, which is PENDING"
    assert f"Stage delegate {words}." in up
    assert f"Suspended · child …{str(child.pk)[-8:]}<" in up
    children = up.split('<section id="children">')[1].split("</section>")[0]
    assert page_url(child) in children
    assert "1 Pending" in children
    assert re.search(rf'Started by run</dt><dd><a [^>]*href="{page_url(run)}"[^>]*>[^<]*</a> \(stage delegate\)', down)
    assert "First run of the line" not in down
    assert words in read(chief, page_url(StageRun.objects.get(run=run)))


def test_a_grandchild_leads_to_the_first_of_its_line(known: Know, host: InlineHost, chief: Client) -> None:
    family = Family()

    @stage("outer")
    def outer(ctx: StageContext[int]) -> int:
        return ctx.run_child(family.parent, ctx.input)

    known(define_workflow("outer", input=int).pipe(outer).build(), *family.workflows)
    run = create_run("outer", 1)
    host.drain()

    page = read(chief, page_url(WorkflowRun.objects.get(depth=2)))

    assert re.search(rf'First run of the line</dt><dd><a [^>]*href="{page_url(run)}"', page)


def test_of_many_children_the_first_are_shown_and_all_are_listed_elsewhere(
    known: Know, host: InlineHost, chief: Client
) -> None:
    family = Family(on_item_error="collect")
    family.bad = {3}
    known(*family.workflows)
    few, many = create_run("parents", [1, 3]), create_run("parents", list(range(25)))
    host.drain()
    read(chief, page_url(few))

    pages, counts = [], []
    for run in (few, many):
        with CaptureQueriesContext(connection) as queries:
            pages.append(read(chief, page_url(run)))
        counts.append(len(queries))

    section = pages[1].split('<section id="children">')[1].split("</section>")[0]
    assert section.count('<th scope="row">') == 20
    assert "24 Completed, 1 Failed" in section
    assert "And 5 more:" in section
    assert counts[0] == counts[1]
    (address,) = re.findall(r'<a href="([^"]*parent_run=[^"]*)">', section)
    assert listed(read(chief, html.unescape(address))) == 25
    assert listed(read(chief, f"{html.unescape(address)}&status__exact=FAILED")) == 1


def test_the_list_of_runs_can_leave_child_runs_out(known: Know, host: InlineHost, chief: Client) -> None:
    known(*Family().workflows)
    create_run("parent", 1)
    host.drain()

    found = [listed(read(chief, list_url("workflowrun"), query)) for query in ({}, {"depth": "0"}, {"depth": "1"})]

    assert found == [2, 1, 1]
    assert listed(read(chief, list_url("workflowrun"), {"parent_run": "nobody"})) == 0


def test_a_child_whose_parent_is_gone_is_shown(known: Know, host: InlineHost, chief: Client) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    host.drain()
    child = WorkflowRun.objects.get(parent_run=run)
    run.delete()

    assert "Started by run" not in read(chief, page_url(child))
