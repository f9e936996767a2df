"""The one job of ours: a bell. It carries the name of a queue and at most an id, never code and never data."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string
from redis import Redis, RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import now

from workflow_engine.kernel.ports import Message

from .names import logical_queues, rq_queue

logger = logging.getLogger(__name__)
RUN_JOB = "workflow_engine.transports.rq.run_job"
HOST = "workflow_engine.hosts.jobs.process_available_jobs"
DESCRIPTION = "workflow engine: something is due"
# The engine has timeouts of its own, per stage; the job of a plain rqworker runs as many stages as are due.
NO_TIMEOUT = -1
FAILURE_SECONDS = 3600
# A bell whose worker died between taking and deleting it must not lie in Redis for ever.
BELL_SECONDS = 7 * 24 * 3600


class ForeignJob(PermissionError):
    """A job in a queue of the engine that the engine did not put there."""


class StageJob(Job):
    """Runs exactly one function, whatever Redis says: no other import path, no callbacks, no webhooks, no pickle."""

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(id, connection=connection, serializer=JSONSerializer)

    @classmethod
    def ring_for(cls, message: Message, connection: Redis) -> StageJob:
        hint = [] if message.stage_run_id is None else [str(message.stage_run_id)]
        job = cls.create(
            RUN_JOB,
            args=[message.queue, *hint],
            connection=connection,
            origin=rq_queue(message.queue),
            status=JobStatus.QUEUED,
            description=DESCRIPTION,
            timeout=NO_TIMEOUT,
            result_ttl=0,
            failure_ttl=FAILURE_SECONDS,
        )
        job.enqueued_at = now()
        assert isinstance(job, StageJob)  # noqa: S101 - RQ's own annotation forgets the class
        return job

    def message(self) -> Message:
        """Return what the bell says. Raises ``ForeignJob``."""
        self._refuse_foreign()
        try:
            queue, *hint = self.args
            return Message(str(queue), uuid.UUID(hint[0]) if hint else None)
        except (AttributeError, TypeError, ValueError) as error:
            raise ForeignJob(f"{RUN_JOB!r} takes the name of a queue and an id.") from error

    @property
    def func(self) -> Callable[..., int]:
        self._refuse_foreign()
        return run_job

    def _refuse_foreign(self) -> None:
        try:
            named, instance = self.func_name, self.instance
        except Exception as error:
            raise ForeignJob("The job is not JSON, so this engine did not write it; it is not read.") from error
        if named != RUN_JOB or instance is not None:
            raise ForeignJob(f"Jobs in this queue may call {RUN_JOB!r} only, got {str(named)[:100]!r}.")

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.retries_left = self.repeats_left = None

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    @property
    def webhooks(self) -> list[Any]:
        return []

    @webhooks.setter
    def webhooks(self, value: Any) -> None:
        """Dropped: whoever writes to Redis would make workers call addresses of their choice."""

    @property
    def description(self) -> str:
        return DESCRIPTION

    @description.setter
    def description(self, value: Any) -> None:
        """Fixed: RQ logs it twice, and by default it holds all arguments."""


def open_bell(client: Redis, queue: Queue, job_id: str) -> Message | None:
    """Take the job of an id that was popped; return what it says, None if it says nothing.

    A job that is not ours is logged and moved to RQ's failed registry; it is never executed. Either way it stood in
    the place of a bell, so whoever popped it looks for work.
    """
    try:
        job = StageJob(job_id, connection=client)
        job.refresh()  # type: ignore[no-untyped-call]
        message = job.message()
    except NoSuchJobError:
        return None
    except RedisError:
        raise
    # Whoever can write to Redis decides what is in there: nothing of it may stop the listener.
    except Exception as error:
        logger.warning("foreign job refused queue=%s job=%r error=%.300s", queue.name, job_id[:100], error)
        if isinstance(error, ForeignJob):
            _fail(queue, job_id, error)
        return None
    client.delete(job.key)
    return message


def _fail(queue: Queue, job_id: str, error: ForeignJob) -> None:
    """Keep the job as it is, where RQ's tools show it and can put it back into a queue of its own."""
    job = Job.fetch(job_id, connection=queue.connection, serializer=JSONSerializer)
    job.origin = job.origin or queue.name
    with queue.connection.pipeline() as pipe:
        record_job_failure(job, f"{type(error).__name__}: {error}", pipe)
        pipe.execute()


def run_job(queue: str, stage_run_id: str | None = None) -> int:
    """Do, in this process, what is due in the queue; return how many attempts ended. What a plain ``rqworker`` calls.

    ``stage_run_id`` is only a hint: one bell may stand for many stages, of all queues that share its queue of RQ.
    """
    # By name: transports stand below the hosts that drive them.
    return int(import_string(HOST)(queues=logical_queues(rq_queue(queue))))
