from __future__ import annotations

import io
import json
import os
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from tests.management.calling import call
from tests.workflows import Broken, Number, chain, failing, fan
from workflow_engine import cancel_run
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.models import WorkflowRun
from workflow_engine.running import run_id_of

pytestmark = pytest.mark.django_db(transaction=True)
Know = Callable[..., Any]
TIME = re.compile(r"\d\d:\d\d:\d\d")


def one_stage(body: Callable[[StageContext[Any]], Any], id: str = "one", **options: Any) -> Workflow[Any, Any]:
    def annotated(ctx: StageContext[Any]) -> Any:
        return body(ctx)

    return define_workflow(id, input=Any).pipe(stage("only", **options)(annotated)).build()


@pytest.mark.smoke
def test_a_run_is_driven_to_its_end_and_its_output_printed(known: Know) -> None:
    known(chain(2))

    called = call("wfe_run", "chain", "--input", '{"value": 1}')

    run = WorkflowRun.objects.get()
    assert called.code == 0, called.error
    assert called.lines[0] == f"Run {run.pk}"
    assert re.match(r"COMPLETED after [\d.]+ m?s$", called.lines[1])
    assert json.loads(called.out.partition("Output: ")[2]) == {"value": 3}


def test_artifacts_are_listed_and_secrets_and_long_outputs_are_not_printed(known: Know) -> None:
    def body(ctx: StageContext[Any]) -> Any:
        ctx.artifact("report.txt", "x" * 1536)
        return {"password": "hunter2", "text": "y" * 5000}

    known(one_stage(body))

    called = call("wfe_run", "one")

    assert re.search(r"report\.txt  1\.5 KiB  runs/", called.out)
    assert "hunter2" not in called.out
    assert re.search(r"… 3,0\d\d more characters", called.out)


def test_json_holds_the_whole_result(known: Know) -> None:
    known(one_stage(lambda ctx: ctx.artifact("a.txt", "hello") and {"password": "hunter2"}))

    called = call("wfe_run", "one", "--json")

    assert called.json["status"] == "COMPLETED"
    assert called.json["output"] == {"password": "hunter2"}
    assert [(item["name"], item["size"]) for item in called.json["artifacts"]] == [("a.txt", 5)]
    assert [(item["stage_id"], item["attempt"]) for item in called.json["stages"]] == [("only", 1)]
    assert len(called.lines) == 1


def test_a_failed_run_exits_with_1_and_names_the_stage_and_its_error(known: Know) -> None:
    known(failing())

    called = call("wfe_run", "failing", "--input", '{"value": 1}')

    assert called.code == 1
    assert called.lines[-1] == "Error in stage fails: Broken: attempt 1"
    assert called.error.endswith("is FAILED.")


def test_a_run_that_is_cancelled_meanwhile_exits_with_3(known: Know) -> None:
    known(one_stage(lambda ctx: cancel_run(ctx.run_id)))

    called = call("wfe_run", "one", "--json")

    assert (called.code, called.json["status"]) == (3, "CANCELLED")


def test_watching_prints_a_line_whenever_something_changes(known: Know) -> None:
    @stage("flaky", retry=Retry(max_attempts=2, initial=timedelta(milliseconds=300), jitter=0))
    def flaky(ctx: StageContext[Number]) -> Number:
        if ctx.attempt == 1:
            raise Broken("not\nyet")
        return ctx.input

    known(define_workflow("watched", input=Number).pipe(flaky).build())

    called = call("wfe_run", "watched", "--input", '{"value": 1}', "--watch")

    lines = [TIME.sub("T", line) for line in called.lines]
    assert "T  flaky  attempt 1 failed, retries at T: Broken: not yet" in lines
    assert any(re.match(r"T  flaky  completed in .*, attempt 2$", line) for line in lines)
    assert lines.index("T  run    completed") > lines.index("T  run    pending")


def test_watching_with_json_prints_changes_and_then_the_result(known: Know) -> None:
    known(fan(2))

    called = call("wfe_run", "fan", "--input", '{"value": 1}', "--watch", "--json")

    events = [item["event"] for item in called.jsons]
    assert events[0] == "run" and events[-2:] == ["run", "ended"]
    ended = {item["stage_id"] for item in called.jsons if item["event"] == "stage" and item["status"] == "COMPLETED"}
    assert ended == {"first", "add-1", "add-2", "total"}


def test_without_a_host_the_run_is_created_and_its_id_printed(known: Know) -> None:
    known(chain(1))

    called = call("wfe_run", "chain", "--input", '{"value": 1}', "--no-host", "--priority", "9")

    run = WorkflowRun.objects.get(pk=run_id_of(called.out.strip()))
    assert (called.code, run.status, run.priority) == (0, "PENDING", 9)


def test_an_idempotency_key_gives_the_run_of_the_first_call(known: Know) -> None:
    known(chain(1))
    arguments = ("wfe_run", "chain", "--input", '{"value": 1}', "--idempotency-key", "k", "--json")

    first, second = call(*arguments), call(*arguments)

    assert first.json["run_id"] == second.json["run_id"]
    assert (first.json["created"], second.json["created"]) == (True, False)
    assert WorkflowRun.objects.count() == 1


def test_an_idempotency_key_with_other_content_is_a_usage_error(known: Know) -> None:
    known(chain(1))
    call("wfe_run", "chain", "--input", '{"value": 1}', "--idempotency-key", "k", "--no-host")

    called = call("wfe_run", "chain", "--input", '{"value": 2}', "--idempotency-key", "k", "--no-host")

    assert called.code == 2


@pytest.mark.parametrize("source", ["value", "file", "standard input"])
def test_input_is_read_from_the_value_a_file_or_the_standard_input(
    known: Know, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    known(chain(1))
    file, content = tmp_path / "input.json", '{"value": 41}'
    file.write_text(content)
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    argument = {"value": content, "file": f"@{file}", "standard input": "-"}[source]

    called = call("wfe_run", "chain", "--input", argument, "--config", '{"add-1": {"amount": 2}}', "--json")

    assert called.json["output"] == {"value": 43}


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["missing"], ["No workflow 'missing' is registered. Registered: 'chain'."]),
        (["chain", "--input", "{"], ["--input: the value is not JSON: "]),
        (["chain", "--input", "@/nowhere.json"], ["--input: the file '/nowhere.json' cannot be read: No such file"]),
        (["chain", "--input", "-", "--config", "-"], ["--input and --config cannot both be read"]),
        (["chain", "--input", "{}"], ["Invalid input of workflow 'chain':", "  value: Field required"]),
        (
            ["chain", "--input", '{"value": 1}', "--config", '{"add-1": {"amount": "x"}, "no": {}}'],
            [
                "Invalid config of workflow 'chain':",
                "  no: no such stage; known: add-1",
                "  add-1.amount: Input should",
            ],
        ),
    ],
)
def test_wrong_arguments_exit_with_2_and_create_nothing(known: Know, arguments: list[str], lines: list[str]) -> None:
    known(chain(1))

    called = call("wfe_run", *arguments)

    assert called.code == 2
    for line, start in zip(called.error.splitlines(), lines, strict=True):
        assert line.startswith(start)
    assert not WorkflowRun.objects.exists()


def test_wrong_arguments_are_json_too(known: Know) -> None:
    known(chain(1))

    called = call("wfe_run", "chain", "--input", "{}", "--json")

    assert called.code == 2
    assert called.json["error"]["code"] == "INVALID_INPUT"
    assert called.json["error"]["fields"] == [{"path": "value", "message": "Field required"}]


def test_a_run_that_takes_too_long_exits_with_4_and_says_how_it_goes_on(known: Know) -> None:
    known(chain(1))

    called = call("wfe_run", "chain", "--input", '{"value": 1}', "--no-host", "--watch", "--timeout", "0")

    run = WorkflowRun.objects.get()
    assert called.code == 4
    assert f"has not ended within 0 s. Run {run.pk} goes on" in called.error
    assert "No worker is alive. Start one: manage.py wfe_worker" in called.lines


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_releases_the_run_and_says_how_it_goes_on(known: Know, signum: int, code: int) -> None:
    before = signal.getsignal(signum)
    known(one_stage(lambda ctx: os.kill(os.getpid(), signum)))

    called = call("wfe_run", "one")

    run = WorkflowRun.objects.get()
    assert called.code == code
    assert called.error.endswith(f"Interrupted. Run {run.pk} goes on with: manage.py wfe_worker")
    assert not run.stage_runs.filter(status="RUNNING").exists()
    assert signal.getsignal(signum) == before


def test_inside_a_transaction_it_is_refused_instead_of_waiting_for_ever(known: Know) -> None:
    known(chain(1))

    with transaction.atomic():
        called = call("wfe_run", "chain", "--input", '{"value": 1}')

    assert called.code == 2
    assert "inside a transaction" in called.error
    assert not WorkflowRun.objects.exists()
