from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import ATTACK, page_url
from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import OutboxEvent, StageAttempt, WorkflowLog
from workflow_engine.testing import FakeClock


def test_what_users_and_stages_wrote_is_escaped_everywhere_on_the_page(
    make_run: Callable[..., Any], chief: Client
) -> None:
    run = make_run(fail=True, options={"metadata": {"m": ATTACK}, "annotations": {"key": ATTACK}, "actor": ATTACK})

    page = chief.get(page_url(run)).content.decode()

    assert ATTACK not in page
    for part in ("error", "log", "field", "input", "annotation"):
        assert f"{part} &lt;script&gt;" in page


def test_the_page_has_neither_script_nor_style_of_its_own(make_run: Callable[..., Any], chief: Client) -> None:
    page = chief.get(page_url(make_run())).content.decode()

    content = page[page.index('id="content-main"') :]
    content = content[: content.index("<!-- END Content -->")]
    assert "<script" not in content
    assert "style=" not in content
    assert "<style" not in content


def test_the_graph_shows_groups_as_columns_and_stages_by_status(
    known: Callable[..., Any], kernel: Kernel, host: InlineHost, chief: Client
) -> None:
    run = create_run(known(fan(2)), {"value": 1})
    host.drain(run.pk)

    page = chief.get(page_url(run)).content.decode()

    assert page.count('<g class="wfe-node wfe-completed"') == 4
    assert [text for text in ("Group 1", "Group 2", "Group 3", "Group 4") if text in page] == [
        "Group 1",
        "Group 2",
        "Group 3",
    ]


def test_input_and_output_are_for_holders_of_view_payload(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run(text="the words", api_key="hush")
    viewer, reader = staff("view_workflowrun"), staff("view_workflowrun", "view_payload")

    hidden = viewer.get(page_url(run)).content.decode()
    shown = reader.get(page_url(run)).content.decode()

    assert "the words" not in hidden
    assert shown.count("the words") == 2
    assert "hush" not in shown


def test_files_are_offered_to_holders_of_view_payload_only(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run()
    viewer, reader = staff("view_workflowrun"), staff("view_workflowrun", "view_payload")

    assert "/download/" not in viewer.get(page_url(run)).content.decode()
    assert "/download/" in reader.get(page_url(run)).content.decode()


def test_a_large_input_is_named_and_not_loaded(
    make_run: Callable[..., Any], chief: Client, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(padding="x" * 100_000)
    kernel.ports.blobs.delete(run.data.input["blob"])

    page = chief.get(page_url(run)).content.decode()

    assert run.data.input["blob"] in page
    assert "x" * 100 not in page


def test_the_page_asks_the_database_as_often_for_long_runs_as_for_short_ones(
    known: Callable[..., Any], kernel: Kernel, host: InlineHost, chief: Client
) -> None:
    runs = []
    for length in (1, 12):
        with registry_override(chain(length)):
            runs.append(create_run("chain", {"value": 1}))
            host.drain(runs[-1].pk)
    WorkflowLog.objects.bulk_create(_lines(runs[1], 30))
    chief.get(page_url(runs[0]))

    with CaptureQueriesContext(connection) as short:
        chief.get(page_url(runs[0]))
    with CaptureQueriesContext(connection) as long:
        chief.get(page_url(runs[1]))

    assert len(long) == len(short)


def test_only_the_last_200_log_lines_are_read(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run()
    WorkflowLog.objects.bulk_create(_lines(run, 250))

    page = chief.get(page_url(run)).content.decode()

    assert "line 249." in page
    assert "line 50." in page
    assert "line 49." not in page


def test_a_run_whose_workflow_is_no_longer_registered_is_shown(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run()

    with registry_override():
        answer = chief.get(page_url(run))

    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_looking_changes_nothing(method: str, make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run(drain=False)
    before = (run.status, run.event_seq, OutboxEvent.objects.count(), StageAttempt.objects.count())

    getattr(chief, method)(page_url(run))
    getattr(chief, method)(page_url(run).replace("change/", "cancel/"))

    run.refresh_from_db()
    assert (run.status, run.event_seq, OutboxEvent.objects.count(), StageAttempt.objects.count()) == before


def test_the_page_says_why_the_run_waits(make_run: Callable[..., Any], chief: Client, clock: FakeClock) -> None:
    run = make_run(drain=False, options={"run_at": clock.now() + timedelta(hours=1)})

    assert "Not due before 2026-01-01 13:00:00 UTC." in chief.get(page_url(run)).content.decode()


def _lines(run: Any, count: int) -> list[WorkflowLog]:
    return [
        WorkflowLog(run_id=run.pk, level="INFO", message=f"line {number}.", created_at=run.created_at)
        for number in range(count)
    ]


def test_a_fact_that_is_false_or_zero_is_shown_as_what_it_is(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run(options={"annotations": {"fact.no": False, "fact.zero": 0, "fact.empty": []}})

    page = chief.get(page_url(run)).content.decode()

    for value in ("false", "0", "[]"):
        assert f'<td class="wfe-text wfe-mono">{value}</td>' in page
