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
from .definitions.plugins import registered_plugins
from .errors import WorkflowEngineError

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
def check_subscribers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E012: a plugin or a sink of the settings cannot be imported, is none, or has another one's name."""
    found: list[CheckMessage] = []
    sinks = get_setting("EVENT_SINKS")
    names = [*sinks, *(plugin.name for plugin in registered_plugins())] if isinstance(sinks, list | tuple) else []
    for name in sorted({name for name in names if isinstance(name, str) and names.count(name) > 1}):
        hint = "Each hears of events under its name: name it once, or give a plugin another name=."
        found.append(Error(f"{NAME}: {name!r} is there twice.", hint=hint, id="workflow_engine.E012"))
    for key, method in (("PLUGINS", None), ("EVENT_SINKS", "emit")):
        paths = get_setting(key)
        for path in paths if isinstance(paths, list | tuple) else ():
            try:
                target = import_string(path)
            except (ImportError, AttributeError, TypeError, WorkflowEngineError) as error:
                problem = f"{error}."
            else:
                if method is None or callable(getattr(target, method, None)):
                    continue
                problem = f"it has no method {method}(event)."
            hint = "Use the dotted path of " + (
                "a plugin." if method is None else "a class or object that takes events."
            )
            found.append(Error(f"{NAME}[{key!r}] {path!r}: {problem}", hint=hint, id="workflow_engine.E012"))
    return found


@register()
def check_schedules(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E013: a schedule that is declared in code cannot be: its expression, time zone or input is wrong."""
    from .definitions import registry
    from .definitions.schedules import declared_schedules
    from .kernel.schedules.checking import check_fields

    found: list[CheckMessage] = []
    if problems():
        # E001 says so.
        return found
    most = get_setting("INLINE_PAYLOAD_BYTES")
    for one in declared_schedules():
        fields = {**vars(one), "workflow": one.workflow.id, "enabled": True, "declared": True}
        try:
            check_fields(registry, fields, changed=frozenset(fields), most_bytes=most)
        except WorkflowEngineError as error:
            hint = f"Mend declare_schedule({one.name!r}, …)."
            found.append(Error(str(error), hint=hint, id="workflow_engine.E013"))
    return found


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


@register(Tags.security, deploy=True)
def check_webhooks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W005: whoever may make webhooks can let this host send requests into its own network, or in clear."""
    risks = {
        "WEBHOOK_ALLOW_PRIVATE": "webhooks may be at addresses of this host and its network",
        "WEBHOOK_ALLOW_HTTP": "webhooks may be sent in clear",
    }
    return [
        Warning(
            f"{NAME}[{key!r}]: {risk}.",
            hint="Leave it out, or silence this check where every receiver is one of yours.",
            id="workflow_engine.W005",
        )
        for key, risk in risks.items()
        if get_setting(key)
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
