"""Whoever runs a body, its outcome is the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from tests.executors.conftest import Start
from tests.executors.running import error_of, run_on
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Failed, Result
from workflow_engine.executors.held import Held
from workflow_engine.executors.loop import LoopExecutor
from workflow_engine.executors.processes import ProcessExecutor
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import ThreadExecutor
from workflow_engine.kernel.started import InputReference
from workflow_engine.models import StageRun, WorkflowLog
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
Run = Callable[[Held], Result]
ENDS = (
    "succeeds",
    "raises",
    "asks-for-later",
    "gives-up",
    "exits",
    "is-interrupted",
    "gives-nonsense",
    "asks-for-nothing-there",
)


@pytest.fixture(params=["loop", "process"])
def run(request: pytest.FixtureRequest, recorder: Recorder) -> Run:
    """Return a function that runs an attempt on the loop, or in a child process."""
    if request.param == "process":
        processes: ProcessExecutor = request.getfixturevalue("processes")
        return processes.run
    loop: LoopExecutor = request.getfixturevalue("loop")

    def run(held: Held) -> Result:
        result = run_on(loop, held)
        recorder.flush()
        return result

    return run


def in_a_thread(held: Held) -> Result:
    """Run in a thread that is not the main one: there, Ctrl-C is a body's own doing."""
    results: list[Result] = []
    executor = ThreadExecutor(get_kernel().ports, Recorder(get_kernel().ports))
    thread = threading.Thread(target=lambda: results.append(_run_and_close(executor, held)))
    thread.start()
    thread.join(30)
    return results[0]


def _run_and_close(executor: ThreadExecutor, held: Held) -> Result:
    try:
        return executor.run(held)
    finally:
        connections.close_all()


def without_traceback(result: Result) -> Result:
    return replace(result, error=replace(result.error, traceback="")) if isinstance(result, Failed) else result


@pytest.mark.parametrize("name", ENDS)
def test_an_end_is_told_as_by_a_thread(name: str, start: Start, run: Run) -> None:
    started = start(name, number=1)

    result = run(Held(started))

    expected = in_a_thread(Held(started))
    assert without_traceback(result) == without_traceback(expected)
    assert isinstance(result, Completed) == (name == "succeeds")
    if isinstance(result, Failed) and isinstance(expected, Failed):
        assert result.error.traceback.splitlines()[-1] == expected.error.traceback.splitlines()[-1]


@pytest.mark.parametrize(
    "reference",
    [
        InputReference({"one": inline({}), "other": None}, mapping=True),
        InputReference({"input": inline(["no", "dict"])}),
        InputReference({"input": {"blob": "nowhere", "size": 1, "sha256": ""}}),
    ],
    ids=["missing", "wrong", "blob not there"],
)
def test_an_input_that_cannot_be_read_is_told_as_by_a_thread(reference: Any, start: Start, run: Run) -> None:
    started = replace(start("succeeds"), input=reference)

    result = run(Held(started))

    assert without_traceback(result) == without_traceback(in_a_thread(Held(started)))
    assert isinstance(result, Failed)


def test_a_stage_that_is_not_known_fails_as_in_a_thread(start: Start, run: Run) -> None:
    started = replace(start("succeeds"), stage_id="nowhere")

    result = run(Held(started))

    assert error_of(result) == error_of(in_a_thread(Held(started)))
    assert error_of(result)[0] == "STAGE_NOT_FOUND"


def test_threads_that_a_loop_for_one_body_needed_end_with_it(start: Start) -> None:
    in_a_thread(Held(start("asks-for-nothing-there")))

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wfe-loop")]


def test_large_outputs_and_artifacts_lie_in_the_blob_store(start: Start, run: Run) -> None:
    result = run(Held(start("gives-much")))

    assert isinstance(result, Completed)
    blobs = get_kernel().ports.blobs
    assert len(blobs.get(result.output["blob"])) == result.output["size"] == 100_002
    assert [blobs.get(item.key) for item in result.notes.artifacts] == [b"report"]


def test_log_lines_and_progress_are_written(start: Start, run: Run) -> None:
    started = start("succeeds")

    run(Held(started))

    assert WorkflowLog.objects.get().message == "said"
    assert StageRun.objects.get(pk=started.stage_run_id).progress == {"percent": 50.0, "message": "half"}


def test_what_an_attempt_with_a_void_token_shows_is_not_kept(start: Start, run: Run) -> None:
    started = start("succeeds")
    StageRun.objects.filter(pk=started.stage_run_id).update(token=started.token + 1)

    run(Held(started))

    assert StageRun.objects.get(pk=started.stage_run_id).progress is None
