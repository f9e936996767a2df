"""A database of its own for schedules: SQLite in memory, made once per process, as good as new for each schedule."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

ALIAS = "wfe_simulation"
APP = "workflow_engine"
# How the engine's statements ask SQLite for the time.
NOW = "%Y-%m-%d %H:%M:%f000"
# What the schedules write for their own account, and what the database itself sees happen.
PROBES = """
CREATE TABLE sim_effect (run_id TEXT, stage TEXT, item INTEGER, generation INTEGER);
CREATE TABLE sim_change (kind TEXT, id TEXT, old TEXT, new TEXT, note TEXT);
CREATE TRIGGER sim_run AFTER UPDATE OF status ON workflow_engine_workflowrun WHEN OLD.status <> NEW.status BEGIN
  INSERT INTO sim_change VALUES ('run', NEW.id, OLD.status, NEW.status, sim_actor());
END;
CREATE TRIGGER sim_stage AFTER UPDATE OF status ON workflow_engine_stagerun WHEN OLD.status <> NEW.status BEGIN
  INSERT INTO sim_change VALUES ('stage', NEW.id, OLD.status, NEW.status, sim_actor());
END;
CREATE TRIGGER sim_token AFTER UPDATE OF token ON workflow_engine_stagerun WHEN NEW.token < OLD.token BEGIN
  INSERT INTO sim_change VALUES ('token went back', NEW.id, OLD.token, NEW.token, sim_actor());
END;
CREATE TRIGGER sim_output AFTER UPDATE OF output ON workflow_engine_stagerun
  WHEN OLD.status = 'COMPLETED' AND OLD.output IS NOT NEW.output BEGIN
  INSERT INTO sim_change VALUES ('result replaced', NEW.id, OLD.output, NEW.output, sim_actor());
END;
CREATE TRIGGER sim_lease AFTER UPDATE ON workflow_engine_stagerun
  WHEN OLD.worker <> sim_actor() AND (
    OLD.status = 'RUNNING' AND (NEW.status IN ('PENDING', 'FAILED') OR NEW.worker <> OLD.worker)
    AND NEW.status <> 'CANCELLED'
    OR OLD.status = 'SUSPENDED' AND NEW.status = 'SUSPENDED' AND NEW.worker IS NOT OLD.worker
  ) AND EXISTS (
    SELECT 1 FROM workflow_engine_workerheartbeat w WHERE w.id = OLD.worker AND w.lease_until > sim_now()
  ) BEGIN
  INSERT INTO sim_change VALUES ('live lease stolen', NEW.id, OLD.worker, NEW.worker, sim_actor());
END;
CREATE TRIGGER sim_holder AFTER UPDATE OF status ON workflow_engine_stagerun
  WHEN NEW.status IN ('COMPLETED', 'SUSPENDED') AND OLD.worker <> sim_actor()
  AND (OLD.status = 'RUNNING' OR OLD.wait_kind = 'poll') BEGIN
  INSERT INTO sim_change VALUES ('finished by another', NEW.id, OLD.worker, NEW.status, sim_actor());
END;
CREATE TRIGGER sim_crowd AFTER UPDATE OF status ON workflow_engine_stagerun
  WHEN NEW.status = 'RUNNING' AND (
    SELECT count(DISTINCT s.run_id) FROM workflow_engine_stagerun s
    JOIN workflow_engine_workflowrun r ON r.id = s.run_id
    WHERE r.workflow = 'sim-crowded' AND s.status = 'RUNNING'
  ) > 1 BEGIN
  INSERT INTO sim_change VALUES ('limit exceeded', NEW.run_id, NEW.stage, '', sim_actor());
END;
CREATE TRIGGER sim_cursor AFTER UPDATE OF last_sequence ON workflow_engine_eventcursor
  WHEN NEW.last_sequence < OLD.last_sequence BEGIN
  INSERT INTO sim_change VALUES ('cursor went back', NEW.run_id, OLD.last_sequence, NEW.last_sequence, NEW.subscriber);
END;
"""


class Database:
    """The tables of the engine behind the alias ``ALIAS``, and the functions by which they ask the schedule."""

    def __init__(self) -> None:
        connections.settings[ALIAS] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:",
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "cached_statements": 4096},
            "AUTOCOMMIT": True,
            "ATOMIC_REQUESTS": False,
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": False,
            "TIME_ZONE": None,
            "TEST": {"CHARSET": None, "COLLATION": None, "MIGRATE": True, "MIRROR": None, "NAME": None},
        }
        self.wrapper = DatabaseWrapper(connections.settings[ALIAS], ALIAS)
        connections[ALIAS] = self.wrapper
        self.actor: Callable[[], str] = str
        self._times: dict[str, str] = {}
        self.set_time(datetime.now(UTC))
        self.wrapper.ensure_connection()
        executor = MigrationExecutor(self.wrapper)
        executor.migrate([leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] == APP])
        # Nothing changes in the middle of a statement: so it is enough to ask once in each ("deterministic").
        # A method in C, since most statements ask several times. There is a time only for the text that the engine has.
        self.raw.create_function("strftime", 2, self._times.get, deterministic=True)
        self.raw.create_function("sim_now", 0, lambda: self._times[NOW], deterministic=True)
        self.raw.create_function("sim_actor", 0, lambda: self.actor(), deterministic=True)
        self.raw.executescript(PROBES)
        self._tables = self._names()

    @property
    def raw(self) -> sqlite3.Connection:
        """The driver's connection: what is asked through it is no part of the schedule."""
        return self.wrapper.connection  # type: ignore[no-any-return]

    def rows(self, statement: str, *params: Any) -> list[Any]:
        return self.raw.execute(statement, params).fetchall()

    def set_time(self, now: datetime) -> None:
        """Let it be ``now``, written as the engine's own statements do: milliseconds are all that SQLite has."""
        self._times[NOW] = now.replace(tzinfo=None).isoformat(" ", "milliseconds") + "000"

    def empty(self) -> None:
        """Forget everything that was written."""
        if self.wrapper.in_atomic_block or self.raw.in_transaction:
            raise AssertionError("a schedule has left a transaction open")
        run = self.raw.execute
        run("BEGIN")
        for table in self._tables:
            if run(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone():  # noqa: S608 - names of our own tables
                run(f'DELETE FROM "{table}"')  # noqa: S608
        run("DELETE FROM sqlite_sequence")
        run("COMMIT")

    def _names(self) -> list[str]:
        found = self.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found if name.startswith(("workflow_engine_", "sim_"))]


_made: Database | None = None


def database() -> Database:
    """Return this process's database for schedules."""
    global _made
    if _made is None:
        _made = Database()
    return _made
