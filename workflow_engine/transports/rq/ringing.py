"""Ringing in Redis: never more bells in a queue than there is new work, and never more than a few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from redis import Redis
from rq.queue import Queue

from workflow_engine.kernel.ports import Message

from .jobs import BELL_SECONDS, StageJob
from .names import rq_queue

MAX_BELLS = 8


def ring(client: Redis, messages: Iterable[Message]) -> int:
    """Add bells to the queues that these messages are for; return how many.

    A queue gets as many as it has messages, at most 8, minus those that still hang there: whoever takes one of
    those looks in the database later than now, and sees this work too. So a backlog never multiplies in Redis.
    At most two round trips, whatever the number of queues.
    """
    wanted: defaultdict[str, list[Message]] = defaultdict(list)
    for message in messages:
        bells = wanted[rq_queue(message.queue)]
        if len(bells) < MAX_BELLS:
            bells.append(message)
    queues = [Queue(name, connection=client) for name in wanted]
    with client.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(queue.key)
        lengths = pipe.execute()
    missing = [(queue, wanted[queue.name][length:]) for queue, length in zip(queues, lengths, strict=True)]
    return _add(client, [(queue, bells) for queue, bells in missing if bells])


def _add(client: Redis, missing: Sequence[tuple[Queue, Sequence[Message]]]) -> int:
    if not missing:
        return 0
    with client.pipeline() as pipe:
        pipe.sadd(Queue.redis_queues_keys, *[queue.key for queue, _ in missing])
        for queue, messages in missing:
            jobs = [StageJob.ring_for(message, client) for message in messages]
            for job in jobs:
                job.save(pipeline=pipe)
                pipe.expire(job.key, BELL_SECONDS)
            pipe.rpush(queue.key, *[job.id for job in jobs])
        pipe.execute()
    return sum(len(messages) for _, messages in missing)
