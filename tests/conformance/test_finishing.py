"""One suite over every way to finish a stage: alone, together, and, on PostgreSQL, by one statement."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions.results import Completed, Notes
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, Finished, FinishStages, Outcome, ReleaseStages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)
WORKER = uuid.uuid4()


@pytest.fixture(params=["alone", "together", "straight"])
def finish(request: Any) -> Any:
    """Return a function that finishes attempts; ``straight`` goes by one statement where the database can do that."""
    # A frozen clock keeps PostgreSQL from the one statement, whose times are the database's own.
    kernel = get_kernel() if request.param == "straight" else create_test_kernel()
    together = request.param != "alone"

    def finish(
        *stages: StartedStage, starter: Starter | None = None, metrics: dict[str, float] | None = None
    ) -> tuple[Finished, ...]:
        notes = Notes(metrics or {"pages": 3.0})
        outcomes = tuple(
            Outcome(stage, Completed(inline({"value": 7}), notes), timedelta(seconds=1)) for stage in stages
        )
        return kernel.dispatch(FinishStages(outcomes=outcomes, starter=starter, together=together)).finished

    with use_kernel(kernel):
        yield finish


def starter(slots: int = 8) -> Starter:
    return Starter(worker_id=WORKER, slots=slots)


def claim(kernel: Kernel) -> StartedStage:
    return kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=starter(1))).started[0]


def facts(run: WorkflowRun) -> dict[str, Any]:
    """Return what must be the same whichever way it came about: all but ids and times."""
    run.refresh_from_db()
    names = ("stage", "status", "group_number", "stage_number", "attempt", "token", "priority", "output", "metrics")
    return {
        "run": (run.status, run.event_seq, run.finished_at is not None),
        "totals": (run.total_cost, run.total_tokens),
        "stages": list(run.stage_runs.in_order().values_list(*names)),
        "attempts": list(run.attempts.order_by("id").values_list("stage", "attempt", "token", "outcome", "error_code")),
        "events": list(run.events.order_by("sequence").values_list("sequence", "type", "generation")),
    }


def test_a_stage_is_completed_and_the_next_one_starts_here(known: Any, finish: Any) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1}, priority=7)
    (finished,) = finish(claim(get_kernel()), starter=starter(1))

    assert finished.kind == "completed"
    assert [(item.stage_id, item.token, item.worker_id) for item in finished.next] == [("add-2", 1, WORKER)]
    assert facts(run) == {
        "run": ("RUNNING", 5, False),
        "totals": (0, 0),
        "stages": [
            ("add-1", "COMPLETED", 1, 1, 1, 1, 7, inline({"value": 7}), {"pages": 3.0}),
            ("add-2", "RUNNING", 2, 2, 1, 1, 7, None, None),
        ],
        "attempts": [("add-1", 1, 1, "completed", "")],
        "events": [
            (1, "run.created", 0),
            (2, "run.started", 0),
            (3, "stage.started", 0),
            (4, "stage.completed", 0),
            (5, "stage.started", 0),
        ],
    }
    attempt = StageAttempt.objects.get()
    assert attempt.started_at is not None
    assert attempt.finished_at - attempt.started_at == timedelta(seconds=1)
    new = StageRun.objects.get(stage="add-2")
    assert (new.config, new.queue, new.rank_at, new.worker) == ({"amount": 1}, "workflows", run.rank_at, WORKER)


def test_without_a_place_the_next_stage_waits_and_rings(known: Any, finish: Any) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    (finished,) = finish(claim(get_kernel()))

    assert finished.next == ()
    row = StageRun.objects.get(stage="add-2")
    assert (row.status, row.attempt, row.token, row.worker, row.started_at) == ("PENDING", 0, 0, None, None)
    assert [event[1] for event in facts(run)["events"]][-1] == "stage.completed"


def test_the_last_stage_ends_the_run(known: Any, finish: Any) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    finish(claim(get_kernel()), starter=starter(1))

    assert facts(run)["run"] == ("COMPLETED", 5, True)
    assert [event[1] for event in facts(run)["events"]][-2:] == ["stage.completed", "run.completed"]
    assert run.get_output() == {"value": 7}
    check_all()


def test_the_run_adds_up_what_its_stages_have_cost(known: Any, finish: Any) -> None:
    known(chain(3))
    run = create_run("chain", {"value": 1})
    (first,) = finish(claim(get_kernel()), starter=starter(1), metrics={"cost": 0.1, "tokens": 1200.0})
    (second,) = finish(*first.next, starter=starter(1), metrics={"cost": 0.2, "pages": 3.0})
    between = facts(run)["totals"]
    finish(*second.next, starter=starter(1), metrics={"tokens": 34})

    assert between == (0.1 + 0.2, 1200)
    assert facts(run)["totals"] == (0.1 + 0.2, 1234)
    payload = run.events.get(type="run.completed").payload
    took = payload.pop("duration_ms")
    assert payload == {
        "workflow_id": "chain",
        "output": ["add-3"],
        "total_cost": 0.1 + 0.2,
        "total_tokens": 1234,
    }
    assert run.started_at is not None
    assert run.finished_at is not None
    assert took == round((run.finished_at - run.started_at).total_seconds() * 1000)
    check_all()


def test_siblings_that_end_together_are_both_counted(known: Any, finish: Any) -> None:
    known(fan(2))
    run = create_run("fan", {"value": 1})
    (first,) = finish(claim(get_kernel()), starter=starter(2))
    finish(*first.next, metrics={"cost": 1.5, "tokens": 10})

    assert facts(run)["totals"] == (3.0, 20)
    check_all()


def test_totals_that_are_nothing_are_left_out_of_the_event(known: Any, finish: Any) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    finish(claim(get_kernel()), starter=starter(1))

    payload = run.events.get(type="run.completed").payload
    assert sorted(payload) == ["duration_ms", "output", "workflow_id"]


def test_absurd_figures_fail_no_stage(known: Any, finish: Any) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    finish(claim(get_kernel()), starter=starter(1), metrics={"cost": 1e308, "tokens": 1e308})

    assert facts(run)["run"][0] == "COMPLETED"
    assert facts(run)["totals"] == (1e15, 10**15)


def test_a_wide_group_takes_the_places_that_there_are(known: Any, finish: Any) -> None:
    known(fan(3))
    create_run("fan", {"value": 1})
    (finished,) = finish(claim(get_kernel()), starter=starter(2))

    assert len(finished.next) == 2
    assert sorted(StageRun.objects.filter(group_number=2).values_list("status", flat=True)) == [
        "PENDING",
        "RUNNING",
        "RUNNING",
    ]


def test_a_void_token_changes_nothing(known: Any, finish: Any) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    started = claim(get_kernel())
    get_kernel().dispatch(ReleaseStages(worker_id=WORKER, tokens={started.pk: started.token}))
    before = facts(run)

    finished = finish(started, starter=starter(1))

    assert [item.kind for item in finished] in ([], ["ghost"])
    assert facts(run) == before
