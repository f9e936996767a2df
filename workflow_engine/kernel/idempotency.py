"""Idempotency keys, claimed inside the transaction of the effect: there is no "in progress" that a crash leaves."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db import Error, IntegrityError, connections, transaction
from pydantic_core import to_jsonable_python

from workflow_engine.errors import (
    DatabaseConflict,
    FieldError,
    IdempotencyConflict,
    IdempotencyInProgress,
    InvalidInput,
    InvalidPayload,
)
from workflow_engine.models import IdempotencyKey

from .conflicts import is_lock_timeout
from .ports import Ports
from .unit_of_work import UnitOfWork


def digest_of(scope: str, command_type: str, key: str) -> str:
    return hashlib.sha256("\x00".join((scope, command_type, key)).encode("utf-8", "surrogatepass")).hexdigest()


def hash_of(content: dict[str, Any]) -> str:
    """Return SHA-256 over the command's content as it was received. Raises ``InvalidPayload`` if that is no JSON."""
    try:
        text = _text_of(content)
    except (TypeError, ValueError, RecursionError):
        # Keys of several kinds, say, which Python's own JSON does not sort.
        try:
            text = _text_of(to_jsonable_python(content, fallback=repr))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPayload("", f"cannot be written as JSON ({error})"[:500]) from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text_of(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)


MAX_KEY_LENGTH = 255


def check_key(key: object, subject: str) -> None:
    """Raises ``InvalidInput`` for what is no idempotency key."""
    if not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH):
        problem = FieldError("idempotency_key", f"must be text of 1 to {MAX_KEY_LENGTH} characters")
        raise InvalidInput(subject, [problem])


def is_known(ports: Ports, command_type: str, scope: str, key: str) -> bool:
    """Whether a command that is committed has used this key."""
    return IdempotencyKey.objects.using(ports.using).filter(pk=digest_of(scope, command_type, key)).exists()


def claim_key(
    work: UnitOfWork,
    *,
    command_type: str,
    scope: str,
    key: str,
    request_hash: str,
    result: dict[str, Any],
    run_id: uuid.UUID | None,
) -> dict[str, Any] | None:
    """Take the key for this transaction, or return the result of the command that took it before.

    A twin that holds the key in an open transaction is waited for; if it rolls back, the key is ours.

    Raises:
        IdempotencyConflict: the key was used for other content.
        IdempotencyInProgress: the twin's transaction is open for longer than ``IDEMPOTENCY_WAIT_SECONDS``.
    """
    using, seconds = work.ports.using, work.ports.limits.idempotency_wait_seconds
    digest = digest_of(scope, command_type, key)
    try:
        # A savepoint: a conflict must not abort the caller's transaction.
        with _lock_wait(using, seconds), transaction.atomic(using=using):
            IdempotencyKey.objects.using(using).create(
                digest=digest,
                command=command_type,
                request_hash=request_hash,
                result=result,
                run_id=run_id,
                created_at=work.now,
            )
        return None
    except IntegrityError:
        pass
    except Error as error:
        if is_lock_timeout(error):
            raise IdempotencyInProgress(command_type, seconds) from error
        raise
    found = IdempotencyKey.objects.using(using).filter(pk=digest).first()
    if found is None:
        raise DatabaseConflict("The idempotency key was taken by a transaction that this one cannot see; repeat it.")
    if found.request_hash != request_hash:
        raise IdempotencyConflict(command_type)
    stored: dict[str, Any] = found.result
    return stored


@dataclass(frozen=True, slots=True)
class Claim:
    """A key of a command that makes a run: who takes it, and for what content."""

    digest: str
    command_type: str
    request_hash: str
    run_id: uuid.UUID

    @classmethod
    def of(cls, command_type: str, scope: str, key: str, *, request_hash: str, run_id: uuid.UUID) -> Claim:
        return cls(digest_of(scope, command_type, key), command_type, request_hash, run_id)


def claim_keys(work: UnitOfWork, claims: Iterable[Claim]) -> Mapping[str, Claim | IdempotencyInProgress]:
    """``claim_key`` of many keys by a constant number of statements; return by digest who has each of them.

    A twin that holds one for longer than ``IDEMPOTENCY_WAIT_SECONDS`` is an error in its place, not of the others.
    """
    # In one order for everybody, so that two who want the same keys do not wait for each other.
    wanted = sorted(claims, key=lambda claim: claim.digest)
    try:
        _insert_keys(work, wanted)
    except Error as error:
        if not is_lock_timeout(error):
            raise
        if len(wanted) == 1:
            seconds = work.ports.limits.idempotency_wait_seconds
            return {wanted[0].digest: IdempotencyInProgress(wanted[0].command_type, seconds)}
        # Nobody knows which of them it was.
        alone = [claim_keys(work, [claim]) for claim in wanted]
        return {digest: holder for found in alone for digest, holder in found.items()}
    rows = IdempotencyKey.objects.using(work.ports.using).filter(pk__in=[claim.digest for claim in wanted])
    found = {
        digest: Claim(digest, command, request_hash, uuid.UUID(result["run_id"]))
        for digest, command, request_hash, result in rows.values_list("digest", "command", "request_hash", "result")
    }
    if len(found) != len(wanted):
        raise DatabaseConflict("A key was taken by a transaction that this one cannot see; repeat it.")
    return found


def _insert_keys(work: UnitOfWork, claims: Iterable[Claim]) -> None:
    using = work.ports.using
    rows = [
        IdempotencyKey(
            digest=claim.digest,
            command=claim.command_type,
            request_hash=claim.request_hash,
            result={"run_id": str(claim.run_id)},
            run_id=claim.run_id,
            created_at=work.now,
        )
        for claim in claims
    ]
    with _lock_wait(using, work.ports.limits.idempotency_wait_seconds), transaction.atomic(using=using):
        # Waits for a twin that has not ended yet, and leaves its key to it if it commits.
        IdempotencyKey.objects.using(using).bulk_create(rows, ignore_conflicts=True)


@contextmanager
def _lock_wait(using: str, seconds: float) -> Iterator[None]:
    """Bound the wait for a twin's transaction, and give the session its own bound back.

    On SQLite a twin cannot be open at the same time: the transaction itself waited for it.
    """
    statements = _LOCK_WAIT.get(connections[using].vendor)
    if statements is None:
        yield
        return
    read, write, unit = statements
    with connections[using].cursor() as cursor:
        cursor.execute(read)
        (before,) = cursor.fetchone()
        cursor.execute(write, [unit(seconds)])
        try:
            yield
        finally:
            # A lost connection is told by the error that is under way, not by this one.
            with suppress(Error):
                cursor.execute(write, [before])


# Vendor -> how to read and set the bound, and the bound in its unit. PostgreSQL's SET LOCAL outlives a released
# savepoint, so there too the old value is restored by hand.
_LOCK_WAIT: dict[str, tuple[str, str, Callable[[float], Any]]] = {
    "postgresql": (
        "SELECT current_setting('lock_timeout')",
        "SELECT set_config('lock_timeout', %s, true)",
        lambda seconds: f"{max(1, int(seconds * 1000))}ms",
    ),
    "mysql": (
        "SELECT @@innodb_lock_wait_timeout",
        "SET innodb_lock_wait_timeout = %s",
        lambda seconds: max(1, int(seconds)),
    ),
}
