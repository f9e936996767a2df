"""A real ``manage.py rqworker``, with and without fork."""

from __future__ import annotations

import subprocess
import sys

import pytest
from redis import Redis

from tests.faults.processes import ROOT, environment
from tests.faults.workflows import crashing, expected
from tests.transports.rq.servers import RedisServer
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.models import WorkflowRun

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def manage(server: RedisServer, *arguments: str) -> str:
    """Run a management command to its end in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env={
            **environment(settings_module="tests.transports.rq.settings"),
            "WFE_TEST_OWN_REDIS_URL": server.url,
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("worker_class", ["rq.worker.Worker", "rq.worker.SimpleWorker"])
@pytest.mark.parametrize("serializer", [("--serializer", "json"), ()], ids=["json", "as it comes"])
def test_a_plain_rqworker_runs_workflows(
    server: RedisServer, redis: Redis, worker_class: str, serializer: tuple[str, ...]
) -> None:
    with registry_override(crashing):
        run = create_run("crashing", "text")
    assert redis.llen("rq:queue:workflows") == 1

    output = manage(
        server,
        *("rqworker", "workflows", "--burst", "--job-class", "workflow_engine.transports.rq.StageJob"),
        *("--worker-class", worker_class, *serializer),
    )

    run = WorkflowRun.objects.get(pk=run.pk)
    assert run.status == "COMPLETED", output
    assert run.get_output() == expected("text")
    assert redis.llen("rq:queue:workflows") == 0
    assert "run_job(" not in output


def test_the_settings_of_such_a_project_pass_every_check(server: RedisServer) -> None:
    assert "no issues" in manage(server, "check", "--fail-level", "WARNING")


def test_the_worker_says_which_transport_it_uses(server: RedisServer) -> None:
    assert "transport  rq" in manage(server, "wfe_worker", "--burst")
