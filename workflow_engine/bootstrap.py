"""Where ports meet adapters: the process's kernel, made of the project's settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.utils import timezone
from django.utils.module_loading import import_string

from workflow_engine.blobs.storage import StorageBlobStore
from workflow_engine.conf import NAME, get_setting, transport_name
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel, create_kernel
from workflow_engine.kernel.ports import JobTransport, Limits
from workflow_engine.kernel.subscribers import Subscribers, Together
from workflow_engine.kernel.webhooks.targets import TargetRules
from workflow_engine.models.base import DbNow
from workflow_engine.models.payloads import read_blobs_with
from workflow_engine.sinks.plugins import ProjectSubscribers
from workflow_engine.sinks.signals import DjangoSignals
from workflow_engine.sinks.webhook_requests import Requests
from workflow_engine.sinks.webhooks import WebhookSubscribers

TRANSPORTS = {
    "rq": "workflow_engine.transports.rq.RqTransport",
    "database": "workflow_engine.transports.database.DatabaseTransport",
    "eager": "workflow_engine.transports.eager.EagerTransport",
}


class SystemClock:
    """The host's time for what people read, the database's for whatever is decided by it."""

    def now(self) -> datetime:
        return timezone.now().astimezone(UTC)

    def db_now(self) -> DbNow:
        return DbNow()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


_override: ContextVar[Kernel | None] = ContextVar("workflow_engine_kernel", default=None)


def get_kernel() -> Kernel:
    """Return this process's kernel, made of the project's settings."""
    return _override.get() or _kernel_from_settings()


@contextmanager
def use_kernel(kernel: Kernel) -> Iterator[Kernel]:
    """Let ``get_kernel()`` return another kernel inside the block, in this thread or task only. For tests."""
    token = _override.set(kernel)
    try:
        yield kernel
    finally:
        _override.reset(token)


@cache
def _kernel_from_settings() -> Kernel:
    using, limits, webhooks = get_setting("DATABASE"), limits_from_settings(), WebhookSubscribers()
    project = ProjectSubscribers(
        plugins=get_setting("PLUGINS"),
        sinks=get_setting("EVENT_SINKS"),
        timeout=get_setting("EVENT_TIMEOUT_SECONDS"),
        tidy=tidy_connections,
    )
    kernel = create_kernel(
        using=using,
        clock=SystemClock(),
        transport=make_transport(using),
        blobs=StorageBlobStore(get_setting("BLOB_STORAGE")),
        limits=limits,
        subscribers=Subscribers(Together(project, webhooks), announcer=DjangoSignals(), forget=webhooks.forget),
        sender=Requests(limits.webhook_targets, timeout=limits.webhook_timeout),
    )
    webhooks.deliver_by(kernel)
    return kernel


def make_transport(using: str) -> JobTransport:
    name = transport_name()
    transport: JobTransport = import_string(TRANSPORTS.get(name, name))(using)
    return transport


def limits_from_settings() -> Limits:
    return Limits(
        inline_payload_bytes=get_setting("INLINE_PAYLOAD_BYTES"),
        max_payload_bytes=get_setting("MAX_PAYLOAD_BYTES"),
        lease_seconds=get_setting("LEASE_SECONDS"),
        beat_seconds=get_setting("BEAT_SECONDS"),
        max_crashes=get_setting("MAX_CRASHES"),
        idempotency_wait_seconds=get_setting("IDEMPOTENCY_WAIT_SECONDS"),
        unknown_grace_seconds=get_setting("UNKNOWN_DEFINITION_GRACE_SECONDS"),
        max_map_items=get_setting("MAX_MAP_ITEMS"),
        max_parallel=get_setting("MAX_PARALLEL"),
        max_child_depth=get_setting("MAX_CHILD_DEPTH"),
        max_event_tries=get_setting("MAX_EVENT_TRIES"),
        webhook_timeout=get_setting("WEBHOOK_TIMEOUT"),
        webhook_max_attempts=get_setting("WEBHOOK_MAX_ATTEMPTS"),
        webhook_disable_days=get_setting("WEBHOOK_DISABLE_DAYS"),
        webhook_targets=TargetRules(
            allow_http=get_setting("WEBHOOK_ALLOW_HTTP"),
            allow_private=get_setting("WEBHOOK_ALLOW_PRIVATE"),
            ports=tuple(get_setting("WEBHOOK_PORTS")),
        ),
        idempotency_keep_days=get_setting("IDEMPOTENCY_KEEP_DAYS"),
    )


class _CurrentBlobs:
    def get(self, key: str) -> bytes:
        return get_kernel().ports.blobs.get(key)


read_blobs_with(_CurrentBlobs())


def _forget_kernel(*, setting: str, **_: Any) -> None:
    if setting in (NAME, "STORAGES", "DATABASES", "RQ_QUEUES", "INSTALLED_APPS"):
        _kernel_from_settings.cache_clear()


setting_changed.connect(_forget_kernel, dispatch_uid="workflow_engine.kernel")
