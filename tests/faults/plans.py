"""The plans of the crash matrix: how a run of each begins, what others do meanwhile, and what it must come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.workflows import (
    LARGE,
    approve,
    batch,
    digest,
    expected_of_expense,
    expected_of_household,
    expected_of_line,
    expected_of_waiting,
    expected_of_wide,
    expense,
    grandchild,
    household,
    line,
    payday,
    paying,
    waiting,
    wide,
    written,
)
from workflow_engine import answer_stage, create_run
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.registry import registry_override
from workflow_engine.models import RunNotice, StageAttempt, StageMemo, StageRun, WorkflowArtifact, WorkflowRun

ITEMS = 4


@dataclass(frozen=True)
class Plan:
    """``drive`` is what somebody outside does, whenever it is time.

    ``check_death`` looks at what is there when a worker has just died, ``check`` at a run that has ended.
    """

    workflow: Workflow
    also: tuple[Workflow, ...]
    start: Callable[[], WorkflowRun]
    check: Callable[[WorkflowRun], None]
    drive: Callable[[], None] = lambda: None
    check_death: Callable[[], None] = lambda: None

    def begin(self) -> WorkflowRun:
        with registry_override(self.workflow, *self.also):
            return self.start()

    def ended(self) -> bool:
        self.drive()
        return not (WorkflowRun.objects.open().exists() or RunNotice.objects.exists())

    def check_end(self, run: WorkflowRun) -> None:
        run.refresh_from_db()
        with registry_override(self.workflow, *self.also):
            assert (run.status, run.error) == ("COMPLETED", None), (run.status, run.error)
            self.check(run)
        # Whatever a death costs is an attempt that was lost; nobody has failed.
        outcomes = set(StageAttempt.objects.values_list("outcome", flat=True))
        assert outcomes <= {"completed", "suspended", "pending", "lost"}, outcomes


def completed(*stages: str) -> None:
    """Assert that these stages and no others were completed, each once."""
    done = StageAttempt.objects.filter(outcome="completed").values_list("stage", flat=True)
    assert Counter(done) == Counter(stages)
    assert set(StageRun.objects.values_list("status", flat=True)) <= {"COMPLETED", "SKIPPED"}


def check_line(run: WorkflowRun) -> None:
    assert run.get_output() == expected_of_line("input")
    completed(*line.stage_ids)
    assert WorkflowArtifact.objects.count() == 3


def check_wide(run: WorkflowRun) -> None:
    assert run.get_output() == expected_of_wide("input")
    completed(*wide.stage_ids)
    assert WorkflowArtifact.objects.count() == 9


def check_waiting(run: WorkflowRun) -> None:
    assert run.get_output() == expected_of_waiting("input")
    statuses = dict(StageRun.objects.values_list("stage", "status"))
    assert statuses == {name: "SKIPPED" if name == "skipped" else "COMPLETED" for name in waiting.stage_ids}
    assert set(StageMemo.objects.values_list("kind", "name")) == {("default", "ask"), ("timer", "sleep")}
    # A batch is never submitted twice.
    submitted = StageAttempt.objects.filter(stage=batch.id, kind="body").exclude(outcome="lost")
    assert list(submitted.values_list("outcome", flat=True)) == ["suspended"]


def start_expense() -> WorkflowRun:
    return create_run(expense, "claim", config={payday.id: {"seconds": 0.1}})


def answer() -> None:
    waits = StageRun.objects.filter(stage=approve.id, status="SUSPENDED", worker=None)
    for row in waits.select_related("run"):
        answer_stage(row.run, approve, {"text": "yes"}, idempotency_key="yes")


def check_expense(run: WorkflowRun) -> None:
    assert run.get_output() == expected_of_expense("claim", "yes")
    completed(*expense.stage_ids)
    assert set(StageMemo.objects.values_list("kind", "name")) == {("answer", "manager"), ("timer", "sleep")}


def check_household(run: WorkflowRun) -> None:
    assert run.get_output() == expected_of_household(ITEMS)
    # One child per item, and one item per number: none was lost, none doubled.
    assert WorkflowRun.objects.filter(parent_run=run).count() == ITEMS
    assert StageMemo.objects.filter(run=run, kind="child").count() == ITEMS
    assert StageRun.objects.filter(run=run, map_index__gte=0, status="COMPLETED").count() == ITEMS
    assert StageAttempt.objects.filter(stage__in=("double", "more"), outcome="completed").count() == 2 * ITEMS


def booked_or_not() -> None:
    """Assert that there is what was noted, and that was noted what there is."""
    assert written("booked") == StageRun.objects.filter(stage="reserve", status="COMPLETED").count()
    assert written("paid") == StageRun.objects.filter(stage="pay", status="COMPLETED").count()


def check_paying(run: WorkflowRun) -> None:
    assert run.get_output() == digest("charge", "input" + "x" * LARGE)
    assert (written("booked"), written("paid"), StageMemo.objects.count()) == (1, 1, 1)


PLANS = {
    "line": Plan(line, (), lambda: create_run(line, "input"), check_line),
    "1→8→1": Plan(wide, (), lambda: create_run(wide, "input"), check_wide),
    "suspension": Plan(waiting, (), lambda: create_run(waiting, "input"), check_waiting),
    "approval": Plan(expense, (), start_expense, check_expense, answer),
    "map": Plan(household, (grandchild,), lambda: create_run(household, ITEMS), check_household),
    "atomic": Plan(paying, (), lambda: create_run(paying, "input"), check_paying, check_death=booked_or_not),
}
