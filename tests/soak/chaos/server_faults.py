"""What is done to the servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from redis import RedisError

from tests.soak.chaos.plan import Act
from tests.soak.chaos.servers import Servers
from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.ports import Message

LISTS = ("rq:queue:workflows", "rq:queue:long")
HELD_SECONDS = 20.0
Later = Callable[[float, Callable[[], None]], None]


def do(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    """Do it, and return what there is to say about it. A server that cannot be asked leaves it undone."""
    deed = DEEDS[act.kind]
    try:
        return deed(act, servers, later)
    except (RedisError, psycopg.Error) as error:
        return {"skipped": f"{type(error).__name__}: {error}"[:200]}


def _flush(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    with servers.redis.client() as client:
        bells = sum(client.llen(name) for name in LISTS)
        client.flushall()
    return {"bells": bells}


def _restart_empty(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    servers.redis.crash()
    servers.redis.forget()
    time.sleep(act.size)
    servers.redis.start()
    return {"away": round(act.size, 2)}


def _restart_with_log(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    servers.redis.crash()
    time.sleep(act.size)
    servers.redis.start()
    return {"away": round(act.size, 2)}


def _away(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    """Away for half a minute to a minute; the other faults go on meanwhile."""
    seconds = 30 + 30 * act.size
    servers.redis.crash()
    servers.redis.forget()
    later(seconds, servers.redis.start)
    return {"away": round(seconds, 1)}


def _pause(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    seconds = 2 + 3 * act.size
    with servers.redis.client() as client:
        client.client_pause(int(seconds * 1000))
    return {"seconds": round(seconds, 2)}


def _drop(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    """Lose about a third of the bells, as a failover may that loses its last second."""
    dropped = 0
    with servers.redis.client() as client:
        for name in LISTS:
            ids = client.lrange(name, 0, -1)
            start = int(act.pick * 3)
            dropped += sum(client.lrem(name, 1, id) for id in ids[start::3])
    return {"bells": dropped} if dropped else {"skipped": "no bell hangs"}


def _double(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    """Ring bells twice; where none hangs, one for nothing."""
    with servers.redis.client() as client:
        for name in LISTS:
            ids = client.lrange(name, 0, -1)
            if ids:
                return {"bells": client.rpush(name, *ids) - len(ids)}
    get_kernel().ports.transport.push([Message("workflows"), Message("workflows")])
    return {"bells": 2, "for": "nothing"}


def _hold(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    with servers.redis.client() as client:
        for name in LISTS:
            id = client.lpop(name)
            if id is not None:
                later(HELD_SECONDS, partial(_give_back, servers, name, id))
                return {"seconds": HELD_SECONDS}
    return {"skipped": "no bell hangs"}


def _give_back(servers: Servers, name: str, id: Any) -> None:
    try:
        with servers.redis.client() as client:
            client.rpush(name, id)
    except RedisError:
        # Then it is lost, which must do no harm either.
        return


def _restart_postgres(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    servers.postgres.crash()
    crashed = time.time()
    time.sleep(2 * act.size)
    servers.postgres.start()
    return {"away": round(time.time() - crashed, 2), "up_at": time.time()}


def _terminate(act: Act, servers: Servers, later: Later) -> dict[str, Any]:
    """End the connection of somebody, whatever it is doing; rather one that is in a transaction."""
    with psycopg.connect(servers.postgres.url, autocommit=True, connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT pid, state FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " ORDER BY pid"
        ).fetchall()
        busy = [row for row in rows if row[1] != "idle"] or rows
        if not busy:
            return {"skipped": "nobody is connected"}
        pid, state = busy[int(act.pick * len(busy))]
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    return {"backend": pid, "state": state}


DEEDS: dict[str, Callable[[Act, Servers, Later], dict[str, Any]]] = {
    "redis-flush": _flush,
    "redis-empty": _restart_empty,
    "redis-aof": _restart_with_log,
    "redis-away": _away,
    "redis-pause": _pause,
    "redis-drop": _drop,
    "redis-double": _double,
    "redis-hold": _hold,
    "pg-restart": _restart_postgres,
    "pg-terminate": _terminate,
}
