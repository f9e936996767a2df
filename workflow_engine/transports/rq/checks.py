"""System checks of projects whose transport is RQ. Only ``check_server`` (``--deploy``) talks to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from redis import Redis, RedisError
from rq.serializers import JSONSerializer, resolve_serializer
from rq.utils import get_version

from workflow_engine.conf import NAME

from .connecting import connect
from .names import known_queues, rq_queue, rq_queues

EXAMPLE = '{"HOST": "127.0.0.1", "PORT": 6379, "DB": 0, "SERIALIZER": "json"}'
# What in an entry of RQ_QUEUES says nothing about where its Redis is.
NOT_OF_THE_CONNECTION = {
    "ASYNC",
    "AUTOCOMMIT",
    "COMMIT_MODE",
    "DEFAULT_RESULT_TTL",
    "DEFAULT_TIMEOUT",
    "QUEUE_CLASS",
    "SERIALIZER",
}
OLDEST_REDIS = (6, 2, 0)
CHECK_SECONDS = 3.0


def check_queues() -> Iterator[CheckMessage]:
    """E005: django_rq is no app. E006: a queue is missing. E007: it is pickled. E008: queues lie in several Redis."""
    if not apps.is_installed("django_rq"):
        yield Error(
            f"{NAME}['TRANSPORT'] is 'rq', but django_rq is not installed as an app.",
            hint='Add "django_rq" to INSTALLED_APPS, or use the transport "database".',
            id="workflow_engine.E005",
        )
    configured: dict[str, dict[str, Any]] = getattr(settings, "RQ_QUEUES", None) or {}
    for name in rq_queues(None):
        if name not in configured:
            yield _missing(name)
        elif not _is_json(configured[name].get("SERIALIZER")):
            yield Error(
                f"RQ_QUEUES[{name!r}]['SERIALIZER'] is {configured[name].get('SERIALIZER', 'pickle')!r}: whoever can "
                "write to Redis runs code in workers, and in web processes that show a job.",
                hint=f'Set RQ_QUEUES[{name!r}]["SERIALIZER"] = "json".',
                id="workflow_engine.E007",
            )
    yield from _check_connections({name: configured[name] for name in rq_queues(None) if name in configured})


def _missing(name: str) -> Error:
    logical = ", ".join(repr(queue) for queue in known_queues() if rq_queue(queue) == name)
    return Error(
        f"RQ_QUEUES has no queue {name!r}, which rings for stages of {logical}.",
        hint=f"Add RQ_QUEUES[{name!r}] = {EXAMPLE}, or map {logical} to a queue that is there by {NAME}['QUEUES']; "
        f'or use the transport "database": {NAME}[\'TRANSPORT\'] = "database".',
        id="workflow_engine.E006",
    )


def _is_json(serializer: Any) -> bool:
    try:
        return resolve_serializer(serializer) is JSONSerializer
    except (AttributeError, ImportError, NotImplementedError, ValueError):
        return False


def _check_connections(configured: dict[str, dict[str, Any]]) -> Iterator[CheckMessage]:
    places = {
        name: {key: value for key, value in entry.items() if key not in NOT_OF_THE_CONNECTION}
        for name, entry in configured.items()
    }
    first = next(iter(places), None)
    others = [name for name, place in places.items() if first is not None and place != places[first]]
    if others:
        yield Error(
            f"RQ_QUEUES: {', '.join(map(repr, others))} and {first!r} have different connections, but a worker waits "
            "at all of its queues at once.",
            hint="Give all queues of the engine the same connection.",
            id="workflow_engine.E008",
        )


def check_server() -> Iterator[CheckMessage]:
    """E009: Redis cannot be reached. E010: it is too old. W003: it may throw bells away when it is full."""
    try:
        client: Redis = connect(answer_within=CHECK_SECONDS)
        with client:
            version, policy = get_version(client), client.info("memory").get("maxmemory_policy")
    # Settings of all kinds end here too: a wrong URL, a missing certificate, no RQ_QUEUES at all.
    except (RedisError, OSError, ValueError, LookupError, TypeError, ImportError, ImproperlyConfigured) as error:
        yield Error(
            f"The Redis of RQ_QUEUES cannot be asked: {type(error).__name__}: {error}.",
            hint="Workers go on without it, by polling the database. Correct RQ_QUEUES, or start Redis.",
            id="workflow_engine.E009",
        )
        return
    if version < OLDEST_REDIS:
        yield Error(
            f"Redis {'.'.join(map(str, version))} is too old.",
            hint="RQ needs Redis 6.2 or newer, or Valkey.",
            id="workflow_engine.E010",
        )
    if policy not in (None, "noeviction"):
        yield Warning(
            f"Redis has maxmemory-policy {policy!r}: when it is full it throws away queues and registered workers.",
            hint="Give RQ a Redis of its own with: CONFIG SET maxmemory-policy noeviction.",
            id="workflow_engine.W003",
        )
