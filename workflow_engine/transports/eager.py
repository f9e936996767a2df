"""For tests: what is pushed is run at once, in the thread that committed it."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.module_loading import import_string

from workflow_engine.kernel.ports import JobTransport, Message

DRIVER = "workflow_engine.hosts.inline.drive_due"


class EagerTransport(JobTransport):
    """``TRANSPORT = "eager"``: a run has ended when the transaction that created it has committed.

    Retries wait for their due time, so a stage that fails is left PENDING.
    """

    def __init__(self, using: str = "default") -> None:
        self.pushed: list[Message] = []

    def push(self, messages: Sequence[Message]) -> None:
        self.pushed += messages
        # By name: transports stand below the hosts that drive them.
        import_string(DRIVER)()

    def pop(self, wait: float) -> list[Message]:
        return []

    def ack(self, message: Message) -> None:
        """Nothing is kept."""

    def depth(self, queue: str) -> int:
        return 0

    def epoch(self) -> str:
        return "eager"
