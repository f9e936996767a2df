"""One client of the hand-written floors: ``python -m tests.benchmarks.floor URL KIND BEGIN SECONDS``.

It prints how many transactions it made between ``BEGIN`` (Unix time) and ``SECONDS`` later.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

TABLES = """
CREATE TABLE one_row (id bigserial PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE run (id uuid PRIMARY KEY, status text NOT NULL, events int NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE stage (
    id uuid PRIMARY KEY, run_id uuid NOT NULL, number int NOT NULL, status text NOT NULL, token bigint NOT NULL,
    output jsonb, started_at timestamptz, finished_at timestamptz, UNIQUE (run_id, number)
);
CREATE TABLE attempt (
    id bigserial PRIMARY KEY, stage_id uuid NOT NULL, token bigint NOT NULL, outcome text NOT NULL,
    finished_at timestamptz NOT NULL, UNIQUE (stage_id, token)
);
CREATE TABLE event (
    id bigserial PRIMARY KEY, run_id uuid NOT NULL, sequence int NOT NULL, type text NOT NULL, payload jsonb NOT NULL,
    at timestamptz NOT NULL, UNIQUE (run_id, sequence)
);
"""
DONE = """UPDATE stage SET status = 'COMPLETED', output = '{"json": "1"}', finished_at = now()
WHERE id = %(stage)s AND token = 1 AND status = 'RUNNING'"""
ATTEMPT = "INSERT INTO attempt (stage_id, token, outcome, finished_at) VALUES (%(stage)s, 1, 'completed', now())"
NEXT = """INSERT INTO stage (id, run_id, number, status, token, started_at)
VALUES (%(next)s, %(run)s, %(number)s, 'RUNNING', 1, now())"""
EVENTS = """INSERT INTO event (run_id, sequence, type, payload, at) VALUES
(%(run)s, 2 * %(number)s, 'stage.completed', '{"stage_id": "step"}', now()),
(%(run)s, 2 * %(number)s + 1, 'stage.started', '{"stage_id": "step"}', now())"""
RUN = "UPDATE run SET events = events + 2, updated_at = now() WHERE id = %(run)s"

# With BEGIN and COMMIT: five statements make seven round trips, three statements (two of them double) make five.
STATEMENTS = {
    "floor7": (DONE, ATTEMPT, NEXT, EVENTS, RUN),
    "floor5": (f"WITH a AS ({ATTEMPT}) {DONE}", f"WITH r AS ({RUN}) {NEXT}", EVENTS),
}
STAGES = 5


def one_row(connection: psycopg.Connection[Any]) -> Callable[[], None]:
    def insert() -> None:
        connection.execute("INSERT INTO one_row (at) VALUES (now())")
        connection.commit()

    return insert


def stages(connection: psycopg.Connection[Any], statements: tuple[str, ...]) -> Callable[[], None]:
    """Return what ends one stage and starts the next; each fifth begins a new run."""
    ids: dict[str, Any] = {"number": 0}

    def begin() -> None:
        ids.update(run=uuid.uuid4(), next=uuid.uuid4(), number=1)
        connection.execute("INSERT INTO run VALUES (%(run)s, 'RUNNING', 0, now())", ids)
        connection.execute(NEXT, ids)
        connection.commit()

    def advance() -> None:
        if ids["number"] % STAGES == 0:
            begin()
        ids.update(stage=ids["next"], next=uuid.uuid4(), number=ids["number"] + 1)
        for statement in statements:
            assert connection.execute(statement, ids).rowcount > 0
        connection.commit()

    return advance


def client(url: str, kind: str, begin: float, seconds: float) -> int:
    with psycopg.connect(url) as connection:
        once = one_row(connection) if kind == "commits" else stages(connection, STATEMENTS[kind])
        once()
        time.sleep(max(0.0, begin - time.time()))
        done, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            once()
            done += 1
    return done


if __name__ == "__main__":
    sys.stdout.write(str(client(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))))
