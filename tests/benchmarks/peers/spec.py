"""What an adapter is asked for: one system, one workload, some modes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

STEPS = {
    "chain5": 5,
    "payload10k": 5,
    "group10": 11,
    "single": 1,
    "gaps": 5,
    "gaps-queued": 5,
    "waits": 1,
    "polls": 1,
    "heard": 5,
    "limited": 5,
}
PAYLOAD_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Spec:
    """``modes``: any of prepare, alone, flood, backlog, count, create, idle; done in the order that the driver has."""

    workload: str
    modes: Sequence[str]
    variant: str = ""
    processes: int = 2
    threads: int | None = None
    alone: int = 50
    alone_seconds: float = 10
    runs: int = 100
    idle_seconds: float = 20
    limit_seconds: float = 120
    postgres: str = ""
    redis: str = ""
    scratch: str = ""

    @property
    def steps(self) -> int:
        return STEPS[self.workload]

    def text(self) -> str:
        return json.dumps(asdict(self))
