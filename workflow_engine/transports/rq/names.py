"""Which queue of RQ rings for which logical queue (setting ``QUEUES``); one that is not named maps to itself."""

from __future__ import annotations

from collections.abc import Iterable

from workflow_engine.conf import get_setting
from workflow_engine.definitions.registry import registered_workflows
from workflow_engine.definitions.stages import DEFAULT_QUEUE


def rq_queue(queue: str) -> str:
    return str(get_setting("QUEUES").get(queue, queue))


def logical_queues(name: str) -> list[str]:
    """Return every logical queue that rings in the RQ queue ``name``: bells are coalesced over all of them."""
    mapping = get_setting("QUEUES")
    return sorted({queue for queue, target in mapping.items() if target == name} | ({name} - set(mapping)))


def known_queues() -> list[str]:
    """Return the logical queues of every stage of every registered workflow, and the default queue."""
    return sorted({DEFAULT_QUEUE} | {stage.queue for workflow in registered_workflows() for stage in workflow})


def rq_queues(queues: Iterable[str] | None) -> list[str]:
    """Return the RQ queues that ring for these logical queues; None: for all that are known."""
    return sorted({rq_queue(queue) for queue in (known_queues() if queues is None else queues)})
