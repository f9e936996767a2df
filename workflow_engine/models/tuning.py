"""What each database needs besides tables: run by the migrations, by vendor."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# Room on the page for the new version of a row that is updated a few times in its life (PostgreSQL's HOT updates).
_FILLFACTOR = {"workflow_engine_workflowrun": 80, "workflow_engine_stagerun": 80, "workflow_engine_workerheartbeat": 50}

# Partial indexes exist on PostgreSQL and SQLite only; these stand in for the hot ones on MySQL and MariaDB.
_PLAIN_INDEXES = {
    "wfe_run_claim_plain": ("workflow_engine_workflowrun", "status, rank_at"),
    "wfe_stage_due_plain": ("workflow_engine_stagerun", "status, rank_at"),
    "wfe_run_next_plain": ("workflow_engine_workflowrun", "status, due_at"),
    "wfe_stage_next_plain": ("workflow_engine_stagerun", "status, due_at"),
    "wfe_stage_running_plain": ("workflow_engine_stagerun", "worker, status"),
}
_PLAIN_INDEXES_OF_WAITS = {
    "wfe_stage_wake_plain": ("workflow_engine_stagerun", "status, wake_at"),
    "wfe_run_deadline_plain": ("workflow_engine_workflowrun", "status, deadline_at"),
}
_PLAIN_INDEXES_OF_LINES = {
    "wfe_run_parent_plain": ("workflow_engine_workflowrun", "parent_stage_run_id"),
    "wfe_run_children_plain": ("workflow_engine_workflowrun", "parent_run_id"),
    "wfe_run_root_plain": ("workflow_engine_workflowrun", "root_run_id"),
}
# Its counts change with every chunk of items.
_FILLFACTOR_OF_MAPS = {"workflow_engine_stagemap": 50}


def tune(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set what Django's migrations cannot say."""
    if schema_editor.connection.vendor == "postgresql":
        for table, percent in _FILLFACTOR.items():
            schema_editor.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")
    elif schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in _PLAIN_INDEXES.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def untune(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo ``tune``."""
    if schema_editor.connection.vendor == "postgresql":
        for table in _FILLFACTOR:
            schema_editor.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    elif schema_editor.connection.vendor == "mysql":
        for name, (table, _) in _PLAIN_INDEXES.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")


def tune_waits(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set what the tables of suspended stages need besides."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in _PLAIN_INDEXES_OF_WAITS.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def untune_waits(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo ``tune_waits``."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, _) in _PLAIN_INDEXES_OF_WAITS.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")


def tune_lines(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set what runs that start runs need besides, and the counts of maps."""
    if schema_editor.connection.vendor == "postgresql":
        for table, percent in _FILLFACTOR_OF_MAPS.items():
            schema_editor.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")
    elif schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in _PLAIN_INDEXES_OF_LINES.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def untune_lines(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo ``tune_lines``."""
    if schema_editor.connection.vendor == "postgresql":
        for table in _FILLFACTOR_OF_MAPS:
            schema_editor.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    elif schema_editor.connection.vendor == "mysql":
        for name, (table, _) in _PLAIN_INDEXES_OF_LINES.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")


_PLAIN_INDEXES_OF_BULK = {
    "wfe_bulk_status_plain": ("workflow_engine_bulkoperation", "status"),
    "wfe_bulk_target_plain": ("workflow_engine_bulktarget", "operation_id, outcome, id"),
}


def tune_bulk(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set what the tables of bulk operations need besides."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in _PLAIN_INDEXES_OF_BULK.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def untune_bulk(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo ``tune_bulk``."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, _) in _PLAIN_INDEXES_OF_BULK.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")


_PLAIN_INDEXES_OF_EVENTS = {"wfe_event_pending_plain": ("workflow_engine_outboxevent", "pending, id")}


def tune_events(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set what events that are to be handed on need besides."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in _PLAIN_INDEXES_OF_EVENTS.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def untune_events(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo ``tune_events``."""
    if schema_editor.connection.vendor == "mysql":
        for name, (table, _) in _PLAIN_INDEXES_OF_EVENTS.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")
