"""A real worker process dies by SIGKILL while it sends webhooks; others go on; the receiver hears of everything."""

from __future__ import annotations

from collections import defaultdict

import pytest
from django.test import override_settings
from standardwebhooks.webhooks import Webhook

from tests.faults.takeover import killed, take_over
from tests.faults.test_crash_matrix_of_events import all_heard, in_order
from tests.faults.webhook_settings import WEBHOOKS
from tests.faults.workflows import crashing
from tests.invariants import check_all
from tests.webhooks.receiver import receiving
from tests.webhooks.sending import run_id_of, sequence_of
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import CreateWebhook
from workflow_engine.models import DeadLetter, WebhookDelivery, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
SETTINGS = "tests.faults.webhook_settings"
WEBHOOK_POINTS = (points.HAND_ON_IN_TX, points.FLUSH_CLAIMED, points.WEBHOOK_SENT, points.FLUSH_IN_TX)


@pytest.mark.parametrize(("point", "hit"), [(point, hit) for point in WEBHOOK_POINTS for hit in (1, 3)])
def test_whoever_dies_while_it_sends_costs_nothing_but_a_repetition(point: str, hit: int) -> None:
    with (
        receiving() as receiver,
        registry_override(crashing),
        override_settings(WORKFLOW_ENGINE=WEBHOOKS),
    ):
        made = get_kernel().dispatch(CreateWebhook(url=receiver.url))
        runs = [create_run(crashing, "input") for _ in range(3)]
        killed(f"{point}:{hit}", settings_module=SETTINGS)
        take_over(all_heard, workers=2, settings_module=SETTINGS)

    found = defaultdict(list)
    for request in receiver.received:
        Webhook(made.secret).verify(request.body, request.headers)
        found[run_id_of(request.id)].append(sequence_of(request.id))
    for run in runs:
        last = WorkflowRun.objects.get(pk=run.pk).event_seq
        assert in_order(found[run.pk], last), found[run.pk]
    assert len(receiver.received) >= WebhookDelivery.objects.count()
    assert not DeadLetter.objects.exists()
    check_all()
