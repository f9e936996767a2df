"""System checks: what is wrong with a project, with the fix. Only ``--deploy`` and ``--database`` open a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, transaction
from django.utils.module_loading import import_string

from .conf import NAME, get_setting, problems, transport_name

SQLITE_OPTIONS = '"OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"}'


@register()
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: a setting is unknown or its value cannot work."""
    return [
        Error(
            f"{NAME}[{key!r}] {problem}." if key != NAME else f"{NAME} {problem}.", hint=fix, id="workflow_engine.E001"
        )
        for key, problem, fix in problems()
    ]


@register()
def check_transport(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E002: the transport cannot be imported."""
    from .bootstrap import TRANSPORTS

    name = transport_name()
    try:
        import_string(TRANSPORTS.get(name, name))
    except ImportError as error:
        known = ", ".join(repr(item) for item in TRANSPORTS)
        hint = f"Use {known} or the dotted path of a transport class."
        return [Error(f"{NAME}['TRANSPORT'] {name!r}: {error}.", hint=hint, id="workflow_engine.E002")]
    return []


@register()
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E003: SQLite without IMMEDIATE transactions fails with "database is locked" under load."""
    alias = get_setting("DATABASE")
    database = settings.DATABASES.get(alias, {})
    if "sqlite3" not in database.get("ENGINE", ""):
        return []
    options = database.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if str(options.get("transaction_mode", "")).upper() != "IMMEDIATE":
        found.append(
            Error(
                f"DATABASES[{alias!r}]: without IMMEDIATE transactions SQLite fails with 'database is locked'.",
                hint=f"Add {SQLITE_OPTIONS}.",
                id="workflow_engine.E003",
            )
        )
    if "wal" not in str(options.get("init_command", "")).lower():
        found.append(
            Warning(
                f"DATABASES[{alias!r}]: SQLite without write-ahead log makes readers wait for writers.",
                hint=f"Add {SQLITE_OPTIONS}.",
                id="workflow_engine.W001",
            )
        )
    return found


@register()
def check_atomic_stages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E011: on SQLite an atomic stage could keep every other writer waiting for longer than a lease."""
    from .definitions import registered_workflows
    from .hosts.atomic import endless

    if "sqlite3" not in settings.DATABASES.get(get_setting("DATABASE"), {}).get("ENGINE", ""):
        return []
    lease = get_setting("LEASE_SECONDS")
    if isinstance(lease, bool) or not isinstance(lease, int | float):
        # E001 says so.
        return []
    stages = {stage for workflow in registered_workflows() for stage in (*workflow, *workflow.retired) if stage.atomic}
    return [
        Error(
            problem,
            hint=f"Write @stage({stage.id!r}, atomic=True, timeout=timedelta(seconds={lease / 3:g})).",
            id="workflow_engine.E011",
        )
        for stage in sorted(stages, key=lambda stage: stage.id)
        if (problem := endless(stage, lease))
    ]


@register()
def check_time_zone(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E004: datetimes stored in a local zone cannot be compared with the database's clock."""
    alias = get_setting("DATABASE")
    database = settings.DATABASES.get(alias, {})
    if "postgresql" in database.get("ENGINE", "") or database.get("TIME_ZONE") in (None, "UTC"):
        return []
    return [
        Error(
            f"DATABASES[{alias!r}]['TIME_ZONE'] is {database['TIME_ZONE']!r}: leases and due times are kept in UTC.",
            hint="Remove TIME_ZONE from this database; Django then stores UTC.",
            id="workflow_engine.E004",
        )
    ]


@register(Tags.security, deploy=True)
def check_blob_storage(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W002: large payloads lie where media files are served from."""
    alias = get_setting("BLOB_STORAGE")
    storage: Any = settings.STORAGES.get(alias, {})
    options = storage.get("OPTIONS", {})
    served = "FileSystemStorage" in storage.get("BACKEND", "") and "location" not in options and settings.MEDIA_ROOT
    if not served:
        return []
    return [
        Warning(
            f"{NAME}['BLOB_STORAGE']: payloads and artifacts are stored under MEDIA_ROOT, which is usually public.",
            hint='Add a private storage to STORAGES, e.g. {"BACKEND": "django.core.files.storage.FileSystemStorage", '
            '"OPTIONS": {"location": "/srv/private"}}, and name its key.',
            id="workflow_engine.W002",
        )
    ]


@register(Tags.database)
def check_plans(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W004: live runs need code that is gone. Only with ``check --database …`` and before ``migrate``."""
    alias = get_setting("DATABASE")
    if alias not in (databases or ()):
        return []
    from .bootstrap import get_kernel
    from .kernel.drift import find_drift

    try:
        with transaction.atomic(using=alias):
            found = find_drift(get_kernel().ports)
    except DatabaseError:
        # Before the first migrate there are no tables.
        return []
    return [Warning(str(item), hint=" ".join(item.fixes), id="workflow_engine.W004") for item in found]


@register()
def check_rq(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E005 to E008: settings that do not suit the RQ transport."""
    if transport_name() != "rq":
        return []
    from .transports.rq.checks import check_queues

    return list(check_queues())


@register(deploy=True)
def check_redis(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E009, E010, W003: the Redis of the RQ transport."""
    if transport_name() != "rq":
        return []
    from .transports.rq.checks import check_server

    return list(check_server())
