"""Hostile values from bodies: outputs, states, errors, and all that a context writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import (
    OutboxEvent,
    RunData,
    StageAttempt,
    StageMap,
    StageMemo,
    StageRun,
    WorkflowAnnotation,
    WorkflowArtifact,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock

from .bodies import TOOLS, ending, mapping, using
from .comparing import as_json, same
from .corpus import CANARY, LARGE, VALUES
from .reading import read_api, read_rows, read_run, reader
from .verdicts import CHANGED, KEPT, REFUSED, check, odd

pytestmark = pytest.mark.django_db
EVERY = VALUES | LARGE
NUMBERS = dict(enumerate(EVERY))
# What is read back of a tool's calls, by the number of the call.
READ: dict[str, Callable[[WorkflowRun], dict[int, Any]]] = {
    "ctx.annotate value": lambda run: {int(row.key[1:]): row.value for row in run.annotations.all()},
    "ctx.annotate key": lambda run: {row.value: row.key for row in run.annotations.all()},
    "ctx.once result": lambda run: {int(row.name[1:]): row.get_value() for row in StageMemo.objects.filter(run=run)},
    "ctx.metric value": lambda run: {int(name[1:]): value for name, value in _metrics(run).items()},
}
# Where every seventh row is read on its own page, too: what is written there may be anything.
PAGES = {"ctx.log field": WorkflowLog, "ctx.artifact name": WorkflowArtifact, "ctx.once result": StageMemo}


def _metrics(run: WorkflowRun) -> dict[str, Any]:
    return StageRun.objects.get(run=run).metrics or {}


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_keeps_a_value_or_refuses_it(name: str, known: Any, host: InlineHost) -> None:
    verdicts: dict[str, str] = {}
    wrong: list[tuple[str, BaseException]] = []
    run = create_run(known(using(TOOLS[name], verdicts, wrong)))

    host.drain(run.pk)

    run.refresh_from_db()
    assert not wrong, odd(wrong)
    assert run.status == "COMPLETED", run.error
    found = READ[name](run) if name in READ else {}
    for number, value in found.items():
        verdicts[NUMBERS[number]] = KEPT if same(as_json(EVERY[NUMBERS[number]]()), value) else CHANGED
    if name in READ:
        # Who gives nothing to keep has nothing kept.
        assert set(EVERY) - set(verdicts) <= {"null"}
    check(name, verdicts)
    client = reader()
    for model in (WorkflowLog, WorkflowAnnotation, WorkflowArtifact, StageMemo, StageRun, StageAttempt, OutboxEvent):
        read_rows(client, model, every=0)
    if name in PAGES:
        read_rows(client, PAGES[name], every=7)
    read_run(client, run.pk)


@pytest.mark.parametrize("how", ["output", "state", "child"])
def test_an_attempt_ends_with_a_value_or_an_error(how: str, known: Any, host: InlineHost, clock: FakeClock) -> None:
    workflow = known(*ending(how))
    run = create_run(workflow, list(EVERY))

    host.drain()
    clock.advance(timedelta(seconds=2))
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error
    verdicts = {}
    for row in StageRun.objects.filter(run=run, map_index__gte=0):
        name = NUMBERS[row.map_index]
        if row.status == "FAILED":
            assert row.error["message"] and row.error["code"], name
            assert CANARY not in row.error["message"], name
            verdicts[name] = REFUSED
        else:
            kept = same(as_json(EVERY[name]()), row.get_output())
            verdicts[name] = KEPT if kept else CHANGED
    assert len(verdicts) == len(EVERY)
    check(f"body: {how}", verdicts)
    client = reader()
    for model in (StageRun, StageAttempt, StageMap, OutboxEvent, WorkflowRun):
        read_rows(client, model, every=0)
    read_run(client, run.pk)
    read_api(client, "stage-items", run_id=run.pk, stage_id="end")
    for index in range(0, len(EVERY), 7):
        read_api(client, "stage-item", run_id=run.pk, stage_id="end", item=index)


def test_a_map_takes_its_items_or_fails(host: InlineHost) -> None:
    verdicts = {}
    client = reader()
    for name, make in EVERY.items():
        workflow = mapping(make)
        with registry_override(workflow):
            run = create_run(workflow)
            host.drain(run.pk)
        run.refresh_from_db()
        if run.status == "FAILED":
            assert CANARY not in run.error["message"]
            verdicts[name] = REFUSED
        else:
            kept = same(as_json(make()), StageRun.objects.get(run=run, map_index=0).get_output())
            verdicts[name] = KEPT if kept else CHANGED

    check("map over", verdicts)
    for model in (WorkflowRun, RunData, StageRun):
        read_rows(client, model, every=0)
