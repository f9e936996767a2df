"""Maps over HTTP: counts per stage, items page by page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.api.conftest import JSONClient, pointers, problem_of
from tests.maps import Importer
from tests.part_way import reviews, until_items_ended
from workflow_engine import create_run, define_workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

Know = Callable[..., Any]


def started(known: Know, host: InlineHost, count: int, *, ended: int | None, **options: Any) -> WorkflowRun:
    """Return a run whose items 1 and 3 fail; ``ended``: how many have ended, None: all, and the run too."""
    importer = Importer(**{"on_item_error": "collect", "max_parallel": 4, **options})
    importer.bad = {1, 3}
    run = create_run(known(importer.workflow), count)
    if ended is None:
        host.drain()
    else:
        until_items_ended(host, run, ended)
    return run


def test_a_mapped_stage_is_listed_once_with_its_counts(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 20, ended=10)

    detail, stages = api.read(f"runs/{run.pk}/").json(), api.read(f"runs/{run.pk}/stages/").json()["results"]

    counts = {"total": 20, "done": 8, "failed": 2, "cancelled": 0, "running": 4}
    assert [(one["stage_id"], one["items"]) for one in detail["stages"]] == [("lines", None), ("import-line", counts)]
    assert [(one["stage_id"], one["items"]) for one in stages] == [("lines", None), ("import-line", counts)]
    suspended = stages[1]["suspended"]
    assert (suspended["waits_for"], suspended["wake_at"], suspended["child_run"]) == ("items", None, None)
    assert detail["waiting"].startswith("Stage import-line: 8 of 20 items are done, 2 failed, 4 are under way.")


def test_items_are_read_page_by_page_in_their_order(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 10, ended=None)

    first = api.read(f"runs/{run.pk}/stages/import-line/items/", {"limit": 4}).json()
    second = api.get(first["next"]).json()
    last = api.get(second["next"]).json()

    assert [one["item_index"] for page in (first, second, last) for one in page["results"]] == list(range(10))
    assert (first["after"], last["after"], last["next"]) == (3, 9, None)
    assert api.read(f"runs/{run.pk}/stages/import-line/items/", {"after": 9}).json()["results"] == []
    assert api.read(f"runs/{run.pk}/stages/import-line/items/", {"after": -1}).json()["results"][0]["item_index"] == 0


def test_items_are_filtered_by_status(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 10, ended=None)

    failed = api.read(f"runs/{run.pk}/stages/import-line/items/", {"status": "FAILED"}).json()["results"]

    assert [(one["item_index"], one["error"]["message"]) for one in failed] == [(1, "line 1"), (3, "line 3")]
    assert api.read(f"runs/{run.pk}/stages/import-line/items/", {"status": "BROKEN"}).status_code == 400
    assert api.read(f"runs/{run.pk}/stages/import-line/items/", {"after": "x"}).status_code == 400


def test_an_item_that_is_held_back_has_no_time_at_which_it_is_due(
    api: JSONClient, known: Know, host: InlineHost
) -> None:
    run = started(known, host, 20, ended=2)

    items = api.read(f"runs/{run.pk}/stages/import-line/items/").json()["results"]

    assert [one["due_at"] is None for one in items] == [False] * 6 + [True] * 14
    assert "9999" not in json.dumps(items)


def test_one_item_shows_what_it_got_and_gave_to_those_who_may_see_it(
    api: JSONClient, client_of: Callable[..., JSONClient], known: Know, host: InlineHost
) -> None:
    run = started(known, host, 5, ended=None)
    address = f"runs/{run.pk}/stages/import-line/items"

    done, failed = (api.read(f"{address}/{item}/").json() for item in (2, 3))
    hidden = client_of("viewer").read(f"{address}/2/").json()

    assert (done["input"], done["output"]) == ({"number": 2, "text": ""}, 20)
    assert (failed["input"], failed["output"], failed["status"]) == ({"number": 3, "text": ""}, None, "FAILED")
    assert not {"input", "output"} & set(hidden)


@pytest.mark.parametrize("path", ["import-line/items/5/", "import-line/items/99999999999/", "nobody/items/"])
def test_what_is_not_there_is_not_found(api: JSONClient, known: Know, host: InlineHost, path: str) -> None:
    run = started(known, host, 5, ended=None)

    assert problem_of(api.read(f"runs/{run.pk}/stages/{path}"))["status"] == 404


def test_a_stage_that_is_not_mapped_has_no_items(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 5, ended=None)

    assert api.read(f"runs/{run.pk}/stages/lines/items/").json()["results"] == []


def test_a_short_output_of_a_map_is_shown_and_a_long_one_is_counted(
    api: JSONClient, known: Know, host: InlineHost, django_assert_max_num_queries: Any
) -> None:
    importer = Importer()
    importer.bad = {1}
    lines, import_line, _ = importer.stages
    known(define_workflow("ends", input=int).pipe(lines).map(import_line, on_item_error="collect").build())
    short, long = (create_run("ends", count) for count in (3, 201))
    host.drain()

    shown = api.read(f"runs/{short.pk}/").json()["output"]
    with django_assert_max_num_queries(10):
        counted = api.read(f"runs/{long.pk}/").json()["output"]

    assert (shown[0], shown[2]) == (0, 20)
    assert (shown[1]["kind"], shown[1]["item"], shown[1]["message"]) == ("item_error", 1, "line 1")
    assert counted == {"$items": "import-line", "count": 201, "failed": 1}


def test_outputs_that_are_large_together_are_counted(api: JSONClient, known: Know, host: InlineHost) -> None:
    from workflow_engine import StageContext, stage

    @stage("blow-up")
    def blow_up(ctx: StageContext[int]) -> str:
        return "x" * ctx.input

    known(define_workflow("large", input=list[int]).map(blow_up).build())
    run = create_run("large", [400_000] * 3)
    host.drain()

    assert api.read(f"runs/{run.pk}/").json()["output"] == {"$items": "blow-up", "count": 3, "failed": 0}


def test_reading_costs_the_same_whatever_the_number_of_items(api: JSONClient, known: Know, host: InlineHost) -> None:
    small, large = (started(known, host, count, ended=5, id=f"importer-{count}") for count in (10, 300))
    for path in ("", "stages/", "stages/import-line/items/?limit=5"):
        counts = []
        for run in (small, large):
            with CaptureQueriesContext(connection) as queries:
                assert api.read(f"runs/{run.pk}/{path}").status_code == 200
            counts.append(len(queries))
        assert counts[0] == counts[1], path


def test_items_are_answered_one_by_one(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = create_run(known(reviews()), ["a", "b"])
    host.drain()
    address = f"runs/{run.pk}/stages/review/answer/"

    whole = api.send(address, {"data": True})
    beyond = api.send(address, {"data": True, "item": 2})
    answers = [api.send(address, {"data": bool(item), "item": item}).json() for item in (1, 0)]
    waiting = api.read(f"runs/{run.pk}/stages/review/items/").json()["results"]
    host.drain()

    assert (whole.status_code, beyond.status_code) == (409, 409)
    assert answers == [{"answered": True, "wait": "look"}] * 2
    assert {one["suspended"] for one in waiting} == {None}
    run.refresh_from_db()
    assert run.get_output() == ["a: False", "b: True"]


def test_failed_items_run_again_alone(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 5, ended=None)
    body = {"stage_id": "import-line", "only_failed_items": True}

    preview = api.send(f"runs/{run.pk}/rerun/?preview=true", body).json()
    answer = api.send(f"runs/{run.pk}/rerun/", body)

    assert (preview["only_failed_items"], preview["items_again"]) == (True, 2)
    assert (answer.status_code, answer.json()["generation"]) == (200, 1)
    counts = api.read(f"runs/{run.pk}/stages/").json()["results"][1]["items"]
    assert counts == {"total": 5, "done": 3, "failed": 0, "cancelled": 0, "running": 2}


def test_a_rerun_of_failed_items_is_refused_where_there_are_none(
    api: JSONClient, known: Know, host: InlineHost
) -> None:
    run = started(known, host, 5, ended=None)

    none = api.send(f"runs/{run.pk}/rerun/", {"stage_id": "lines", "only_failed_items": True})
    odd = api.send(f"runs/{run.pk}/rerun/", {"stage_id": "import-line", "only_failed_items": "yes"})

    assert problem_of(none)["code"] == "INVALID_TRANSITION"
    assert "it has no items" in none.json()["detail"]
    assert set(pointers(odd)) == {"/only_failed_items"}


def test_attempts_and_log_lines_tell_their_item(api: JSONClient, known: Know, host: InlineHost) -> None:
    run = started(known, host, 3, ended=None)

    attempts = api.read(f"runs/{run.pk}/attempts/").json()["results"]

    assert [one["item_index"] for one in attempts if one["stage_id"] == "import-line"] == [None, 0, 1, 2]
