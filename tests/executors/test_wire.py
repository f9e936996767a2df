from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest

from workflow_engine.definitions.results import AnnotationNote, ArtifactRef, Completed, Failed, Notes, StageError
from workflow_engine.executors.wire import result_as_json, result_from_json, started_as_json, started_from_json
from workflow_engine.kernel.started import InputReference, StartedStage

NOTES = Notes(
    {"whole": 12, "part": 0.1},
    (ArtifactRef("a.txt", "runs/a", "text/plain", 3, "00ff"),),
    (AnnotationNote("key", {"deep": [1, None, "ü"]}, "somebody", "k", True), AnnotationNote("other", False)),
)


def over_the_wire(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(data))
    return found


@pytest.mark.parametrize(
    "result",
    [
        Completed({"json": "null"}),
        Completed({"blob": "runs/x", "size": 1, "sha256": "ff"}, NOTES),
        Failed(StageError("STAGE_FAILED", "ValueError", "ü\ufffd", "line\nline"), timedelta(seconds=1.234567), NOTES),
        Failed(StageError("STAGE_FAILED", "ValueError", ""), None),
        Failed(StageError("STAGE_FAILED", "ValueError", ""), timedelta(0)),
    ],
)
def test_a_result_is_the_same_at_the_other_end(result: Any) -> None:
    found = result_from_json(over_the_wire(result_as_json(result)))

    assert found == result
    assert [type(value) for value in found.notes.metrics.values()] == [type(v) for v in result.notes.metrics.values()]


@pytest.mark.parametrize(
    "reference",
    [
        InputReference({"input": {"json": '{"a": 1}'}}),
        InputReference({"one": None, "other": {"blob": "runs/x", "size": 1, "sha256": "ff"}}, mapping=True),
    ],
)
def test_an_attempt_is_the_same_at_the_other_end(reference: InputReference) -> None:
    started = StartedStage(
        stage_run_id=uuid.uuid4(),
        run_id=uuid.uuid4(),
        workflow_id="w",
        stage_id="s",
        group_number=1,
        stage_number=2,
        queue="workflows",
        priority=5,
        generation=0,
        map_index=-1,
        attempt=3,
        token=2**40,
        worker_id=uuid.uuid4(),
        failures=1,
        crashes=0,
        alone=True,
        config={"text": "ü", "number": 1.5},
        metadata={},
        input=reference,
    )

    assert started_from_json(over_the_wire(started_as_json(started))) == started
