"""A sink for processes that are killed: what it hears stands in a file that survives them."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import defaultdict
from pathlib import Path

from workflow_engine import RunEvent


class FileSink:
    """Appends a line per event to the file that the environment names."""

    suffix = ""

    def emit(self, event: RunEvent) -> None:
        line = f"{event.run_id} {event.sequence} {event.type}\n".encode()
        file = os.open(os.environ["WFE_TEST_HEARD"] + self.suffix, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line)
        finally:
            os.close(file)


class MoodySink(FileSink):
    """Raises for a third of the events, is slow with some and hangs with a few; and hears of all of them in the end."""

    suffix = "-moody"

    def __init__(self) -> None:
        self._dice = random.Random(os.getpid())

    def emit(self, event: RunEvent) -> None:
        mood = self._dice.random()
        if mood < 0.3:
            time.sleep(3 if mood < 0.01 else 0)
            raise ConnectionError("the line is down")
        if mood < 0.4:
            time.sleep(0.05)
        super().emit(event)


def heard(path: Path) -> dict[uuid.UUID, list[int]]:
    """Return the numbers of the events of each run, in the order in which they came."""
    found: dict[uuid.UUID, list[int]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else ():
        run_id, sequence, _ = line.split()
        found[uuid.UUID(run_id)].append(int(sequence))
    return found
