"""Settings: one dict, ``WORKFLOW_ENGINE``; every key has a default and is read when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.conf import settings

NAME = "WORKFLOW_ENGINE"
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")

DEFAULTS: dict[str, Any] = {
    # Alias of the database that holds all tables of the engine.
    "DATABASE": "default",
    # "rq", "database", "eager" or a dotted path; None: "rq" if django_rq is installed as an app, else "database".
    "TRANSPORT": None,
    # Logical queue name -> key of RQ_QUEUES; a name that is absent maps to itself.
    "QUEUES": {},
    # Key of Django's STORAGES that holds large payloads and artifacts.
    "BLOB_STORAGE": "default",
    # JSON up to this size (bytes) is stored in the row, above it in the blob store.
    "INLINE_PAYLOAD_BYTES": 64 * 1024,
    "MAX_PAYLOAD_BYTES": 50 * 1024 * 1024,
    "MAX_MAP_ITEMS": 10_000,
    # Items of one map under way at the same time, where the map does not say.
    "MAX_PARALLEL": 100,
    # How deep runs may start runs: a run that nobody has started is at depth 0.
    "MAX_CHILD_DEPTH": 10,
    # A worker process may be silent for this long before its stages are given to others.
    "LEASE_SECONDS": 30,
    "BEAT_SECONDS": 10,
    # The orchestration tick is a safety net; POLL_SECONDS is how often an idle worker looks (database transport).
    "TICK_SECONDS": 5,
    "TICK_BATCH": 100,
    "POLL_SECONDS": 0.3,
    # A stage whose body killed its worker this often, alone in its process, fails with WORKER_LOST.
    "MAX_CRASHES": 3,
    # An event that a subscriber has refused so often is a dead letter for it; what one delivery may take at most.
    "MAX_EVENT_TRIES": 5,
    "EVENT_TIMEOUT_SECONDS": 30,
    # Seconds for all of a request to a webhook; requests for one event, then it is a dead letter for it.
    "WEBHOOK_TIMEOUT": 10,
    "WEBHOOK_MAX_ATTEMPTS": 8,
    # A webhook that has failed for so many days without a success is disabled.
    "WEBHOOK_DISABLE_DAYS": 5,
    # Requests at the same time in a worker process, of all webhooks together.
    "WEBHOOK_THREADS": 8,
    # Where webhooks may be: http:// too; addresses that are not public; ports besides 443 (an empty list: any).
    "WEBHOOK_ALLOW_HTTP": False,
    "WEBHOOK_ALLOW_PRIVATE": False,
    "WEBHOOK_PORTS": [8443],
    "IDEMPOTENCY_WAIT_SECONDS": 10,
    "IDEMPOTENCY_KEEP_DAYS": 7,
    "UNKNOWN_DEFINITION_GRACE_SECONDS": 3600,
    "WORKER_THREADS": 8,
    # `async def` stages at the same time on a worker's event loop, besides those in its threads.
    "WORKER_ASYNC_STAGES": 1000,
    # Completion checks of suspended stages at the same time in a worker, besides its stages.
    "WORKER_CHECKS": 8,
    # How long a draining worker waits for the bodies it runs.
    "GRACE_SECONDS": 30,
    # Dotted paths of plugins besides those in plugins.py of the apps, and of event sinks.
    "PLUGINS": [],
    "EVENT_SINKS": [],
    # Days; None keeps for ever. Of runs also by status: {"COMPLETED": 30, "FAILED": None}.
    "RETENTION": {
        "runs": None,
        "logs": 30,
        "events": 14,
        "ai_calls": None,
        "workers": 7,
        "bulk": 90,
        "schedules": 30,
        "deliveries": 14,
        "blobs": None,
    },
    # Keys whose values are masked in logs, admin and API.
    "REDACT": ["password", "token", "secret", "authorization", "api_key"],
}

POSITIVE = {
    "LEASE_SECONDS",
    "BEAT_SECONDS",
    "TICK_SECONDS",
    "TICK_BATCH",
    "POLL_SECONDS",
    "MAX_CRASHES",
    "MAX_EVENT_TRIES",
    "EVENT_TIMEOUT_SECONDS",
    "WEBHOOK_TIMEOUT",
    "WEBHOOK_MAX_ATTEMPTS",
    "WEBHOOK_DISABLE_DAYS",
    "WEBHOOK_THREADS",
    "WORKER_THREADS",
    "WORKER_ASYNC_STAGES",
    "WORKER_CHECKS",
    "MAX_PAYLOAD_BYTES",
    "MAX_MAP_ITEMS",
    "MAX_PARALLEL",
    "MAX_CHILD_DEPTH",
}
NOT_NEGATIVE = {
    "INLINE_PAYLOAD_BYTES",
    "IDEMPOTENCY_WAIT_SECONDS",
    "IDEMPOTENCY_KEEP_DAYS",
    "UNKNOWN_DEFINITION_GRACE_SECONDS",
    "GRACE_SECONDS",
}
WHOLE = {
    "TICK_BATCH",
    "MAX_CRASHES",
    "MAX_EVENT_TRIES",
    "WEBHOOK_MAX_ATTEMPTS",
    "WEBHOOK_THREADS",
    "WORKER_THREADS",
    "WORKER_ASYNC_STAGES",
    "WORKER_CHECKS",
    "MAX_PAYLOAD_BYTES",
    "INLINE_PAYLOAD_BYTES",
    "MAX_MAP_ITEMS",
    "MAX_PARALLEL",
    "MAX_CHILD_DEPTH",
}


def get_setting(key: str) -> Any:
    """Return the project's value for ``key``, or its default. Raises ``KeyError`` for a key that does not exist."""
    default = DEFAULTS[key]
    given = getattr(settings, NAME, None)
    return given.get(key, default) if isinstance(given, Mapping) else default


def transport_name() -> str:
    """Return the configured transport; what is right without any setting depends on the installed apps."""
    configured = get_setting("TRANSPORT")
    if configured is None:
        return "rq" if apps.is_installed("django_rq") else "database"
    return str(configured)


def problems() -> list[tuple[str, str, str]]:
    """List what is wrong with the project's settings as (key, problem, fix)."""
    given = getattr(settings, NAME, None)
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [(NAME, f"must be a dict, got {type(given).__name__}", f"Write {NAME} = {{...}}.")]
    found: list[tuple[str, str, str]] = []
    for key, value in given.items():
        if key not in DEFAULTS:
            close = get_close_matches(str(key), DEFAULTS, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(DEFAULTS)}."
            found.append((str(key), "is not a setting of workflow_engine", fix))
        elif problem := _problem_with(key, value):
            found.append((key, *problem))
    return found + _problems_between(given)


def _problem_with(key: str, value: Any) -> tuple[str, str] | None:
    default = DEFAULTS[key]
    if key in POSITIVE | NOT_NEGATIVE:
        number = not isinstance(value, bool) and isinstance(value, int if key in WHOLE else int | float)
        if not number or value < 0 or (key in POSITIVE and value == 0):
            bound = "above 0" if key in POSITIVE else "of 0 or more"
            kind = "a whole number" if key in WHOLE else "a number"
            return f"must be {kind} {bound}, got {value!r}", f"The default is {default!r}."
        return None
    if key == "TRANSPORT":
        fits = value is None or isinstance(value, str)
        return None if fits else (f"must be a string, got {value!r}", 'Use "rq", "database" or a dotted path.')
    if key == "DATABASE" and value not in settings.DATABASES:
        return f"names no database: {value!r}", f"Known aliases: {', '.join(settings.DATABASES)}."
    if key == "BLOB_STORAGE" and value not in settings.STORAGES:
        return f"names no storage: {value!r}", f"Known keys of STORAGES: {', '.join(settings.STORAGES)}."
    if not isinstance(value, type(default)):
        return f"must be a {type(default).__name__}, got {type(value).__name__}", f"The default is {default!r}."
    if key == "RETENTION":
        return _problem_with_retention(value)
    if key == "WEBHOOK_PORTS" and not all(type(port) is int and 0 < port < 65536 for port in value):
        return f"must list ports of 1 to 65535, got {value!r}", "For example [8443], or [] for any."
    if key == "QUEUES" and not all(isinstance(name, str) and name for pair in value.items() for name in pair):
        return f"must map names to names, got {value!r}", 'For example {"slow": "low"}: stages of "slow" ring in "low".'
    return None


def _problem_with_retention(value: Mapping[str, Any]) -> tuple[str, str] | None:
    for what, days in value.items():
        if what not in DEFAULTS["RETENTION"]:
            return f"names something unknown: {what!r}", f"Known: {', '.join(DEFAULTS['RETENTION'])}."
        by_status = days if what == "runs" and isinstance(days, Mapping) else {None: days}
        for status, limit in by_status.items():
            if status is not None and status not in FINISHED:
                return f"names no status of runs that have ended: {status!r}", f"Known: {', '.join(FINISHED)}."
            number = isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0
            if limit is not None and not number:
                return (
                    f"must have days above 0 or None for {what!r}, got {limit!r}",
                    f"The default is {DEFAULTS['RETENTION']!r}.",
                )
    return None


def _problems_between(given: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    lease, beat = (given.get(key, DEFAULTS[key]) for key in ("LEASE_SECONDS", "BEAT_SECONDS"))
    if isinstance(lease, int | float) and isinstance(beat, int | float) and 0 < lease < 2 * beat:
        return [
            (
                "LEASE_SECONDS",
                f"must be at least twice BEAT_SECONDS, got {lease!r} and {beat!r}",
                "A lease that is renewed too late is taken for a dead worker. The defaults are 30 and 10.",
            )
        ]
    return []
