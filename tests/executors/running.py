"""Waiting for what executors say."""

from __future__ import annotations

import threading

from tests.waiting import until
from workflow_engine.definitions.results import Completed, Failed, Result
from workflow_engine.executors.held import Held
from workflow_engine.executors.loop import LoopExecutor
from workflow_engine.models.payloads import Envelope


class Answers:
    """Collects ``done`` calls."""

    def __init__(self) -> None:
        self.all: list[tuple[Held, Result]] = []
        self.threads: set[str] = set()

    def __call__(self, held: Held, result: Result) -> None:
        self.threads.add(threading.current_thread().name)
        self.all.append((held, result))

    def of(self, held: Held) -> Result:
        """Return the answer for ``held``, waiting for it; there is no other."""
        until(lambda: any(one is held for one, _ in list(self.all)), f"{held.stage.stage_id} has ended")
        found = [result for one, result in self.all if one is held]
        assert len(found) == 1
        return found[0]


def run_on(loop: LoopExecutor, held: Held) -> Result:
    answers = Answers()
    loop.submit(held, answers)
    return answers.of(held)


def error_of(result: Result) -> tuple[str, str, str]:
    assert isinstance(result, Failed)
    return result.error.code, result.error.kind, result.error.message


def value_of(result: Result) -> object:
    assert isinstance(result, Completed), result
    return Envelope(result.output).open()
