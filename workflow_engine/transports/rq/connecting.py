"""Connections to the Redis of ``RQ_QUEUES``, with our own short timeouts and no retries: what fails is done without."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django_rq.connection_utils import get_redis_connection
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry
from rq.connections import get_connection_kwargs

from workflow_engine.definitions.stages import DEFAULT_QUEUE

from .names import rq_queue

CONNECT_SECONDS = 1.0
HEALTH_CHECK_SECONDS = 30


def connect(*, answer_within: float) -> Redis:
    """Return a client of the one Redis that all queues of the engine share; it connects when it is first used.

    Raises:
        ImproperlyConfigured: ``RQ_QUEUES`` is missing or empty.
    """
    config = _config()
    client = get_redis_connection(config)
    if "USE_REDIS_CACHE" in config:
        # That client belongs to the cache, whose timeouts are not ours to change.
        client = _own_client(client)
    pool = client.connection_pool
    pool.connection_kwargs.update(
        socket_timeout=answer_within,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    if not issubclass(getattr(pool, "connection_class", object), UnixDomainSocketConnection):
        pool.connection_kwargs.update(socket_connect_timeout=CONNECT_SECONDS, socket_keepalive=True)
    return client


def _config() -> dict[str, Any]:
    """Return the entry of the default queue, or any: ``manage.py check`` sees to it that all name one Redis."""
    from django_rq.settings import QUEUES

    config = QUEUES.get(rq_queue(DEFAULT_QUEUE)) or next(iter(QUEUES.values()), None)
    if config is None:
        raise ImproperlyConfigured("RQ_QUEUES is empty.")
    return dict(config)


def _own_client(client: Redis) -> Redis:
    pool = client.connection_pool
    if type(pool) is not ConnectionPool:
        return client
    return Redis(connection_pool=ConnectionPool(pool.connection_class, **get_connection_kwargs(client)))
