"""A worker process dies by SIGKILL at each point that a plan passes, at the first and at the second pass."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings

from tests.faults.matrix import PASSES, Case, chosen
from tests.faults.plans import PLANS
from tests.faults.takeover import killed, take_over
from tests.invariants import check_all
from workflow_engine.kernel import points

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_passes_the_points_of_its_column(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFE_TEST_PASSES", str(tmp_path / "passes"))
    plan = PLANS[name]
    run = plan.begin()

    take_over(plan.ended)

    plan.check_end(run)
    passed = Counter((tmp_path / "passes").read_text().split())
    for point in (points.REAP_IN_TX, points.REAP_AFTER):
        # By a computer that stood still for seconds.
        passed.pop(point, None)
    once = {point for point, count in passed.items() if count == 1}
    assert (once, passed.keys() - once) == tuple(map(set, PASSES[name])), passed
    check_all()


@pytest.mark.parametrize("case", chosen(settings.BACKEND), ids=str)
def test_a_killed_worker_costs_nothing_but_time(case: Case) -> None:
    plan = PLANS[case.plan]
    tell("begun", case)
    run = plan.begin()

    killed(f"{case.point}:{case.hit}", meanwhile=plan.drive)
    plan.check_death()
    take_over(plan.ended)

    check_all()
    plan.check_end(run)
    tell("ended", case)


def tell(what: str, case: Case) -> None:
    """Write down for ``python -m tests.faults`` what becomes of a case."""
    if file := os.environ.get("WFE_TEST_MATRIX"):
        facts = {"backend": settings.BACKEND, "what": what, "place": str(points.POINTS.index(case.point))}
        with Path(file).open("a") as notes:
            notes.write(json.dumps({**facts, "plan": case.plan, "point": case.point, "hit": str(case.hit)}) + "\n")
