"""The example's workflow, killed in each of its stages by SIGKILL of the worker process.

By default once in each stage; ``WFE_FULL_MATRIX=1`` tries every crash point in every stage.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from example_project.documents import samples
from tests.faults.takeover import all_ended, killed, take_over
from tests.invariants import check_all
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import StageRun, WorkflowArtifact

pytest.importorskip("py3langid")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
SETTINGS = "tests.faults.documents_settings"
STAGES = 5
EACH_STAGE = tuple(range(1, STAGES + 1))

FULL = {
    points.CLAIM_IN_TX: (1,),
    points.CLAIM_AFTER: (1,),
    points.START_IN_TX: (1,),
    points.START_AFTER: (1,),
    points.EXEC_CLAIMED: EACH_STAGE,
    # Three documents: four lines of the first stage, three of each of the next three, one of the last.
    points.EXEC_MID: (2, 6, 9, 12, 14),
    points.EXEC_RETURNED: EACH_STAGE,
    points.BLOB_PUT: (1, 2),
    points.COMPLETE_BEFORE: EACH_STAGE,
    points.COMPLETE_IN_TX: EACH_STAGE,
    points.COMPLETE_AFTER: EACH_STAGE,
}
CASES = FULL if os.environ.get("WFE_FULL_MATRIX") else {points.EXEC_RETURNED: EACH_STAGE}


@pytest.mark.parametrize(("point", "hit"), [(point, hit) for point, hits in CASES.items() for hit in hits])
def test_a_worker_killed_in_any_stage_costs_no_result(point: str, hit: int) -> None:
    from example_project.documents.workflows import document_analysis

    with registry_override(document_analysis):
        run = create_run(document_analysis, {"path": str(Path(samples.__path__[0]))})

    killed(f"{point}:{hit}", settings_module=SETTINGS)
    if not all_ended():
        take_over(all_ended, settings_module=SETTINGS)

    assert check_all() == 1
    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error
    assert Counter(StageRun.objects.values_list("status", flat=True)) == {"COMPLETED": STAGES}
    assert set(WorkflowArtifact.objects.values_list("name", flat=True)) == {"report.json", "report.html"}
    assert run.get_output()["documents"] == 3
