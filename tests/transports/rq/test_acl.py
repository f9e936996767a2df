"""The user of Redis that the how-to recommends may do all that the engine does, and little else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis, ResponseError
from rq import Queue, Worker

from tests.docs.pages import DOCS
from tests.transports.rq.conftest import Idle, until_listening
from tests.transports.rq.servers import RedisServer
from workflow_engine.kernel.ports import Message
from workflow_engine.transports.rq import RqTransport
from workflow_engine.transports.rq.checks import check_server

pytestmark = pytest.mark.redis
PAGE = DOCS / "how-to" / "rq.md"


@pytest.fixture
def restricted(server: RedisServer, redis: Redis, settings: Any) -> str:
    """Let the project use the user of the page; return its URL."""
    found = re.search(r"^ *ACL SETUSER (\S+) (.*)$", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    user, rules = found[1], found[2].split()
    redis.execute_command("ACL", "SETUSER", user, *rules)
    password = next(rule for rule in rules if rule.startswith(">"))[1:]
    url = server.url.replace("unix://", f"unix://{user}:{password}@")
    for queue in settings.RQ_QUEUES.values():
        queue["URL"] = url
    return url


def test_the_user_of_the_how_to_is_enough_for_the_engine(
    restricted: str,
    make_worker: Callable[..., RqTransport],
    web: RqTransport,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = make_worker()
    idle = Idle(worker)
    until_listening(redis)
    web.push([Message("workflows")])
    assert idle.woken() == [Message("workflows")]
    Queue("workflows", connection=redis, serializer="json").enqueue("os.getcwd")
    Idle(worker).woken()
    worker.refill(["workflows"])
    worker.beat(1, 1)

    assert worker.epoch() != "unknown"
    assert not worker.suspended
    assert len(Worker.all(connection=redis)) == 1
    assert list(check_server()) == []
    worker.detach()
    assert Worker.all(connection=redis) == []
    assert not [record for record in caplog.records if "does not answer" in record.getMessage()]


def test_that_user_sees_no_other_keys_and_cannot_empty_the_server(restricted: str) -> None:
    with Redis.from_url(restricted) as client:
        for command in (["GET", "sessions:1"], ["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"]):
            with pytest.raises(ResponseError):
                client.execute_command(*command)
