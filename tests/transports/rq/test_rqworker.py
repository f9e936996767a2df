"""A real ``manage.py rqworker``, with and without fork."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.faults.processes import start
from tests.faults.workflows import crashing, expected
from tests.transports.rq.servers import RedisServer
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.models import WorkflowRun

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _of_our_own(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFE_TEST_OWN_REDIS_URL", server.url)
    monkeypatch.setenv("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")


def manage(*arguments: str) -> str:
    """Run a management command to its end in a process of its own; return what it printed."""
    process = start(*arguments, settings_module="tests.transports.rq.settings")
    try:
        assert process.wait(120) == 0, process.output()
    finally:
        process.kill()
    return process.output()


@pytest.mark.parametrize("worker_class", ["rq.worker.Worker", "rq.worker.SimpleWorker"])
@pytest.mark.parametrize("serializer", [("--serializer", "json"), ()], ids=["json", "as it comes"])
def test_a_plain_rqworker_runs_workflows(redis: Redis, worker_class: str, serializer: tuple[str, ...]) -> None:
    with registry_override(crashing):
        run = create_run("crashing", "text")
    assert redis.llen("rq:queue:workflows") == 1

    output = manage(
        *("rqworker", "workflows", "--burst", "--job-class", "workflow_engine.transports.rq.StageJob"),
        *("--worker-class", worker_class, *serializer),
    )

    run = WorkflowRun.objects.get(pk=run.pk)
    assert run.status == "COMPLETED", output
    assert run.get_output() == expected("text")
    assert redis.llen("rq:queue:workflows") == 0
    assert "run_job(" not in output


def test_the_settings_of_such_a_project_pass_every_check() -> None:
    assert "no issues" in manage("check", "--fail-level", "WARNING")


def test_the_worker_says_which_transport_it_uses() -> None:
    assert "transport  rq" in manage("wfe_worker", "--burst")
