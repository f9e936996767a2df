"""Limits in the admin: how many runs are under way, how many wait, and for what."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.admin.conftest import list_url, page_url
from tests.limits.workflows import Order, by_tenant
from workflow_engine import create_run
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import DeliverNotices
from workflow_engine.models import RunLimit, WorkflowRun


@pytest.fixture
def runs(kernel: Kernel, known: Any) -> list[WorkflowRun]:
    known(by_tenant(2))
    made = [create_run("limited", Order(tenant=tenant)) for tenant in ("acme", "acme", "acme", "zeta")]
    kernel.dispatch(DeliverNotices())
    return made


def test_the_list_counts_who_is_under_way_and_who_waits(runs: list[WorkflowRun], chief: Client) -> None:
    shown = chief.get(list_url("runlimit")).context["cl"].result_list

    assert [(row.key, row.held, row.most, row.in_line) for row in shown] == [("acme", 2, 2, 1), ("zeta", 1, 2, 0)]


def test_a_key_is_found_by_its_beginning(runs: list[WorkflowRun], chief: Client) -> None:
    shown = chief.get(list_url("runlimit"), {"q": "ze"}).context["cl"].result_list

    assert [row.key for row in shown] == ["zeta"]


def test_the_pages_of_a_limit_and_of_a_run_that_waits_say_so(runs: list[WorkflowRun], chief: Client) -> None:
    limit = chief.get(page_url(RunLimit.objects.get(key="acme"))).content.decode()
    run = chief.get(page_url(runs[2])).content.decode()

    assert "acme" in limit
    assert "2 of 2 runs of limited with the key acme are under way" in run
    assert "9999" not in run
