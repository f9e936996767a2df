"""The cost of old runs: the same measurements with many finished ones in the tables."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
from psycopg import sql

from tests.benchmarks.session import Session
from tests.benchmarks.systems import SYSTEMS

PREFIX = "workflow_engine_"
TABLES = ("workflowrun", "rundata", "stagerun", "stageattempt", "outboxevent")
LINKS = ("id", "run_id", "stage_run_id")
BATCH = 50_000


def measure_growth(session: Session, sizes: tuple[int, ...]) -> None:
    """Do one run of one stage, copy its rows, and measure ``chain5`` and the admin beside them."""
    name = session.ours
    if name is None or name == "ours-sqlite":
        return
    for size in sorted(sizes):
        url = session.fresh(SYSTEMS[name])
        session.measure(name, "single", ["history"], url=url)
        try:
            fill(session, url, size)
        except psycopg.Error as error:
            session.failed.append(f"growth/{size}: {error}")
            continue
        session.servers.checkpoint()
        # Twice: the first burst also reads the indexes into memory.
        session.measure(name, "chain5", ["alone", "flood", "flood", "admin"], url=url, key=f"growth/{size}")


def fill(session: Session, url: str, size: int) -> None:
    """Copy the rows of the only run until there are ``size`` runs; their ids are older than its id, as in life."""
    begin = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        row = connection.execute(f"SELECT id FROM {PREFIX}workflowrun").fetchone()
        if row is None:
            raise psycopg.DataError("there is no run to copy")
        first = int(row[0].hex[:12], 16) - size
        for low, high in batches(size - 1):
            for table in TABLES:
                connection.execute(
                    copying(connection, table), {"run": row[0], "low": low, "high": high, "first": first}
                )
            if high % (4 * BATCH) == 0:
                session.say(f"growth: {high:,} of {size:,} runs after {time.monotonic() - begin:.0f} s")
        connection.execute("VACUUM ANALYZE")


def batches(copies: int) -> Iterator[tuple[int, int]]:
    for low in range(1, copies + 1, BATCH):
        yield low, min(low + BATCH - 1, copies)


def copying(connection: psycopg.Connection, table: str) -> sql.Composed:
    """Return the INSERT for a table as it is today: each uuid that links rows is mapped, the rest is copied."""
    columns = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = %s AND table_schema = current_schema()",
        [PREFIX + table],
    ).fetchall()
    kept = [(name, kind) for name, kind in columns if not (name == "id" and kind == "bigint")]
    return sql.SQL("INSERT INTO {table} ({names}) SELECT {values} FROM {table} t, "
                   "generate_series({low}::bigint, {high}::bigint) n WHERE {key} = {run}").format(
        table=sql.Identifier(PREFIX + table),
        names=sql.SQL(", ").join(sql.Identifier(name) for name, _ in kept),
        values=sql.SQL(", ").join(value(name, kind) for name, kind in kept),
        low=sql.Placeholder("low"), high=sql.Placeholder("high"),
        key=sql.Identifier("t", "id" if table == "workflowrun" else "run_id"),
        run=sql.Placeholder("run"),
    )  # fmt: skip


def value(name: str, kind: str) -> sql.Composable:
    column = sql.Identifier("t", name)
    if name == "payload":
        # Events name the stage that they speak of.
        stage = mapped(sql.SQL("({}->>'stage_run_id')").format(column))
        return sql.SQL(
            "CASE WHEN {column} ? 'stage_run_id' THEN jsonb_set({column}, '{{stage_run_id}}', to_jsonb({stage}::text)) "
            "ELSE {column} END"
        ).format(column=column, stage=stage)
    return mapped(column) if name in LINKS and kind == "uuid" else column


def mapped(column: sql.Composable) -> sql.Composed:
    """Return the id that stands for ``column`` in a copy."""
    return sql.SQL(
        "(lpad(to_hex({first}::bigint + n), 12, '0') || substr(md5({column}::text || n::text), 1, 20))::uuid"
    ).format(first=sql.Placeholder("first"), column=column)
