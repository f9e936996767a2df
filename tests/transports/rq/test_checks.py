"""``manage.py check`` for projects whose transport is RQ: every problem is named with its fix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings
from redis import Redis

from tests.settings import INSTALLED_APPS
from tests.transports.rq.servers import RedisServer
from tests.workflows import Number, chain
from workflow_engine.conf import problems, transport_name
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.transports.rq import checks

JSON = {"HOST": "127.0.0.1", "PORT": 1, "DB": 0, "SERIALIZER": "json"}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    """Install django_rq; nothing answers at the address of its Redis."""
    settings.RQ_QUEUES = {"workflows": dict(JSON)}
    with override_settings(INSTALLED_APPS=[*INSTALLED_APPS, "django_rq"]):
        yield


def found(*, deploy: bool = False) -> dict[str, CheckMessage]:
    messages = run_checks(include_deployment_checks=deploy)
    numbers = {"E005", "E006", "E007", "E008", "E009", "E010", "W003"}
    return {number: item for item in messages if (number := str(item.id).removeprefix("workflow_engine.")) in numbers}


def test_good_settings_have_no_problem_and_no_connection_is_opened() -> None:
    assert found() == {}


@pytest.mark.parametrize("serializer", ["json", "rq.serializers.JSONSerializer"])
def test_json_is_known_by_its_names(settings: Any, serializer: str) -> None:
    settings.RQ_QUEUES = {"workflows": {**JSON, "SERIALIZER": serializer}}

    assert found() == {}


def test_rq_is_the_transport_exactly_if_django_rq_is_installed() -> None:
    assert transport_name() == "rq"
    with override_settings(INSTALLED_APPS=INSTALLED_APPS):
        assert transport_name() == "database"
    with override_settings(WORKFLOW_ENGINE={"TRANSPORT": "database"}):
        assert transport_name() == "database"


def test_other_transports_are_not_asked_about_redis(settings: Any) -> None:
    settings.RQ_QUEUES = {}
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "database"}

    assert found(deploy=True) == {}


def test_rq_without_its_app_is_an_error() -> None:
    with override_settings(INSTALLED_APPS=INSTALLED_APPS, WORKFLOW_ENGINE={"TRANSPORT": "rq"}):
        problem = found()["E005"]

    assert '"django_rq" to INSTALLED_APPS' in str(problem.hint)


@pytest.mark.parametrize("queues", [{}, {"default": dict(JSON)}, None])
def test_a_queue_that_is_missing_is_named_with_an_entry_to_copy(settings: Any, queues: Any) -> None:
    settings.RQ_QUEUES = queues

    problem = found()["E006"]

    assert "'workflows'" in problem.msg
    assert "RQ_QUEUES['workflows'] = {" in str(problem.hint)


def test_the_queue_of_every_stage_is_looked_for_where_it_is_mapped_to(settings: Any, known: Any) -> None:
    @stage("elsewhere", queue="slow")
    def elsewhere(ctx: StageContext[Number]) -> Number:
        return ctx.input

    known(define_workflow("w", input=Number).pipe(elsewhere).build(), chain(1))
    assert "'slow'" in found()["E006"].msg

    settings.WORKFLOW_ENGINE = {"QUEUES": {"slow": "workflows"}}
    assert found() == {}

    settings.WORKFLOW_ENGINE = {"QUEUES": {"slow": "low", "workflows": "low"}}
    assert "'low', which rings for stages of 'slow', 'workflows'" in found()["E006"].msg


@pytest.mark.parametrize("serializer", [None, "pickle", "rq.serializers.DefaultSerializer", "no.such.Serializer"])
def test_a_queue_that_is_pickled_is_an_error(settings: Any, serializer: str | None) -> None:
    settings.RQ_QUEUES = {"workflows": {**JSON, "SERIALIZER": serializer}}

    problem = found()["E007"]

    assert 'RQ_QUEUES[\'workflows\']["SERIALIZER"] = "json"' in str(problem.hint)


@pytest.mark.parametrize("other", [{"DB": 1}, {"USERNAME": "engine"}, {"URL": "redis://elsewhere"}])
def test_queues_in_different_redis_are_an_error(settings: Any, other: dict[str, Any]) -> None:
    settings.RQ_QUEUES = {"workflows": dict(JSON), "low": {**JSON, **other}}
    settings.WORKFLOW_ENGINE = {"QUEUES": {"slow": "low"}}

    assert found() == {}, "no stage is in that queue"

    @stage("elsewhere", queue="slow")
    def elsewhere(ctx: StageContext[Number]) -> Number:
        return ctx.input

    from workflow_engine.definitions.registry import registry_override

    with registry_override(define_workflow("w", input=Number).pipe(elsewhere).build()):
        assert "'workflows' and 'low' have different connections" in found()["E008"].msg


@pytest.mark.parametrize("given", [{"slow": 3}, {3: "slow"}, {"slow": ""}, {"slow": None}])
def test_queues_map_names_to_names(settings: Any, given: Any) -> None:
    settings.WORKFLOW_ENGINE = {"QUEUES": given}

    assert [(key, problem) for key, problem, _ in problems()] == [("QUEUES", f"must map names to names, got {given!r}")]


def test_a_redis_that_does_not_answer_is_an_error_of_deployments() -> None:
    problem = found(deploy=True)["E009"]

    assert "ConnectionError" in problem.msg


def test_settings_that_no_client_can_be_made_of_are_an_error_of_deployments(settings: Any) -> None:
    settings.RQ_QUEUES = {"workflows": {"SERIALIZER": "json"}}

    assert "E009" in found(deploy=True)


@pytest.mark.redis
def test_a_redis_that_is_well_has_no_problem(server: RedisServer) -> None:
    assert found(deploy=True) == {}


@pytest.mark.redis
def test_a_redis_that_is_too_old_is_an_error(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_REDIS", (99, 0, 0))

    assert "is too old" in found(deploy=True)["E010"].msg


@pytest.mark.redis
def test_a_redis_that_throws_keys_away_is_a_warning(server: RedisServer, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        problem = found(deploy=True)["W003"]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")

    assert "'allkeys-lru'" in problem.msg
    assert "noeviction" in str(problem.hint)
