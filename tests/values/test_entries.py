"""Every hostile value into every argument that is stored: kept, changed as is documented, or refused by our errors."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import (
    BulkOperation,
    IdempotencyKey,
    OutboxEvent,
    Pause,
    RunData,
    Schedule,
    ScheduledCommand,
    StageMemo,
    WebhookEndpoint,
    WorkflowAnnotation,
    WorkflowRun,
)

from .corpus import LARGE, VALUES
from .entries import ANY, ENTRIES, Entry, asking
from .reading import read_api, read_rows, reader
from .verdicts import check, judge, odd

pytestmark = pytest.mark.django_db
# Pages of single rows cost most: only some are read, of where values may be largest.
SAMPLE = 7
# Where the API shows rows of a model; those with "run" in the name are asked for each run.
API = {
    WorkflowRun: ("runs", "run"),
    RunData: ("run",),
    IdempotencyKey: ("runs",),
    WorkflowAnnotation: ("run",),
    StageMemo: ("run-stages",),
    OutboxEvent: ("run-events",),
    Pause: (),
    BulkOperation: (),
    Schedule: ("schedules",),
    ScheduledCommand: ("scheduled-commands",),
    WebhookEndpoint: ("webhooks",),
}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_value_is_kept_or_refused_and_can_be_read(entry: Entry, known: Any, host: InlineHost) -> None:
    known(ANY)
    values = VALUES | LARGE if entry.large else VALUES
    verdicts, wrong = {}, []
    if entry.asks:
        # Before the values: what is refused is rolled back, and this would be with it.
        asking(host)

    for name, make in values.items():
        try:
            verdicts[name] = judge(lambda value: entry.write(value, host), make, entry.model, is_json=entry.json)
        except Exception as error:
            wrong.append((name, error))

    assert not wrong, odd(wrong)
    check(entry.name, verdicts)
    client = reader()
    read_rows(client, WorkflowRun if entry.model is RunData else entry.model, every=SAMPLE if entry.large else 0)
    for name in API[entry.model]:
        if "run" not in name.split("-"):
            read_api(client, name)
        elif entry.large:
            for run in WorkflowRun.objects.order_by("-pk")[::SAMPLE]:
                read_api(client, name, run_id=run.pk)
