"""Doing what is due in the calling process, for as long as that takes: what a job of somebody else's worker calls."""

from __future__ import annotations

from collections.abc import Sequence

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.ports import Message
from workflow_engine.kernel.waiting import waiting_queues

from .options import WorkerOptions
from .worker import Worker


def process_available_jobs(max_jobs: int = 100, queues: Sequence[str] | None = None) -> int:
    """Run what is due in ``queues`` (None: in all) until nothing is, or ``max_jobs`` attempts have ended.

    One stage after the other, with a lease that is renewed meanwhile. If more is due then, a bell rings for it. Must
    not be called inside a transaction: bodies run outside of any, and the connections are closed at the end.

    Returns:
        How many attempts ended.
    """
    kernel = get_kernel()
    options = WorkerOptions(
        threads=1,
        queues=queues,
        burst=True,
        # Whoever waits here does not look after others' stages, and hears no bells.
        orchestrate=False,
        attach=False,
        max_jobs=max_jobs,
    )
    finished = Worker(kernel, options).run()
    if finished >= max_jobs:
        kernel.ports.transport.push([Message(queue) for queue in waiting_queues(kernel.ports, queues)])
    return finished


def execute_job(message: Message) -> int:
    """Do what one message is about; return how many attempts ended.

    That is all that is due in its queue: bells are coalesced, so one message may stand for many stages.
    """
    return process_available_jobs(queues=[message.queue])
