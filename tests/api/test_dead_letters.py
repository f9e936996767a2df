"""``dead-letters/`` and ``dead-letters/replay/``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import JSONClient, pointers, problem_of
from tests.outbox.letters import dead_letter
from workflow_engine.models import DeadLetter, WorkflowRun

pytestmark = pytest.mark.django_db


def test_letters_are_listed_oldest_first_and_page_by_page(api: JSONClient, run: WorkflowRun) -> None:
    letters = [dead_letter(run, sequence=number) for number in (1, 2, 3)]

    first = api.read("dead-letters/", {"limit": 2}).json()
    second = api.read("dead-letters/", {"limit": 2, "after": first["after"]}).json()

    assert [item["id"] for item in first["results"] + second["results"]] == [letter.pk for letter in letters]
    assert second["next"] is None
    assert first["results"][0] == {
        "id": letters[0].pk,
        "run_id": str(run.pk),
        "sequence": 1,
        "type": "run.created",
        "subscriber": "mailer",
        "tries": 5,
        "error": "ConnectionError: refused",
        "died_at": first["results"][0]["died_at"],
        "replay_at": None,
    }


def test_letters_are_filtered(api: JSONClient, run: WorkflowRun) -> None:
    dead_letter(run), dead_letter(run, subscriber="other", sequence=2, type="run.failed")

    def numbers(**query: str) -> list[int]:
        return [item["sequence"] for item in api.read("dead-letters/", query).json()["results"]]

    assert numbers(subscriber="mailer") == [1]
    assert numbers(type="run.failed") == [2]
    assert numbers(subscriber="\x00") == []
    assert problem_of(api.read("dead-letters/", {"type": "run.broken"}))["status"] == 400


@pytest.mark.parametrize(
    ("body", "replayed"),
    [
        ({}, 3),
        ({"subscriber": "other"}, 1),
        ({"type": "run.failed"}, 1),
        ({"max": 2}, 2),
        ({"run_id": "0190f000-0000-7000-8000-000000000000"}, 0),
        ({"ids": [0]}, 0),
    ],
)
def test_letters_are_to_be_delivered_again(
    api: JSONClient, run: WorkflowRun, body: dict[str, Any], replayed: int
) -> None:
    dead_letter(run), dead_letter(run, sequence=2, type="run.failed"), dead_letter(run, subscriber="other")

    answer = api.send("dead-letters/replay/", body)

    assert (answer.status_code, answer.json()) == (202, {"replayed": replayed})
    assert DeadLetter.objects.filter(replay_at__isnull=False).count() == replayed


@pytest.mark.parametrize("body", [{"max": 0}, {"max": 1001}, {"ids": []}, {"run_id": "x"}, {"typ": "run.failed"}])
def test_a_wrong_body_is_refused_and_nothing_is_replayed(
    api: JSONClient, run: WorkflowRun, body: dict[str, Any]
) -> None:
    dead_letter(run)

    assert problem_of(api.send("dead-letters/replay/", body))["status"] == 422
    assert not DeadLetter.objects.filter(replay_at__isnull=False).exists()


@pytest.mark.parametrize("body", [{"subscriber": "\x00"}, {"subscriber": "\ud83d"}, {"type": "\ud83d"}], ids=ascii)
def test_a_replay_of_what_no_database_holds_is_refused(body: Any, api: JSONClient) -> None:
    answer = api.send("dead-letters/replay/", body)

    assert answer.status_code == 422
    assert pointers(answer)
