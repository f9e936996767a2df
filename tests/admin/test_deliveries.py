"""Dead letters in the admin: shown to those who may look, delivered again for those who may ask for that."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client

from tests.admin.conftest import list_url
from tests.outbox.letters import dead_letter
from workflow_engine.models import DeadLetter, WorkflowRun

Make = Callable[..., WorkflowRun]
Staff = Callable[..., Client]


def test_chosen_letters_are_delivered_again(make_run: Make, staff: Staff) -> None:
    run = make_run()
    chosen, other = dead_letter(run), dead_letter(run, sequence=2)
    data = {"action": "replay", "_selected_action": [chosen.pk], "index": 0}

    page = staff("view_deadletter", "replay_deadletter").post(list_url("deadletter"), data, follow=True)

    assert "1 event will be delivered again." in page.content.decode()
    chosen.refresh_from_db(), other.refresh_from_db()
    assert chosen.replay_at is not None
    assert other.replay_at is None


def test_who_may_only_look_replays_nothing(make_run: Make, staff: Staff) -> None:
    letter = dead_letter(make_run())
    client = staff("view_deadletter")
    data = {"action": "replay", "_selected_action": [letter.pk], "index": 0}

    assert "Deliver selected" not in client.get(list_url("deadletter")).content.decode()
    client.post(list_url("deadletter"), data, follow=True)

    assert not DeadLetter.objects.filter(replay_at__isnull=False).exists()
