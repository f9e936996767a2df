"""Which lines of the bodies of stages are run, and a death just before one of them."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections import Counter
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from workflow_engine.definitions import Workflow
from workflow_engine.kernel import points

# Passed by the engine while it serves a body.
INSIDE_BODIES = (points.EXEC_MID, points.BLOB_PUT)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was about to be run, by a body or by what it calls in the same file; the ``hit``-th time.

    ``number``: of the body's own line, which it is or which has called it; ``inner``: of the line itself.
    """

    stage_id: str
    file: str
    number: int
    inner: int
    hit: int = 1

    @property
    def text(self) -> str:
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.text}"


class LineTracer:
    """Notes the lines of bodies in the order in which they are reached, in this thread; dies before ``deadly``.

    A body's lines are those of its own file that are run while it runs.
    """

    def __init__(
        self, workflows: list[Workflow[Any, Any]], deadly: Line | None, reached: list[Line], *, is_armed: bool
    ) -> None:
        self._before = sys.gettrace()
        self._bodies: dict[CodeType, str] = {}
        for workflow in workflows:
            for stage in (*workflow, *workflow.retired):
                code = getattr(inspect.unwrap(stage.body), "__code__", None)
                if code is not None:
                    self._bodies[code] = stage.id
        self._deadly = deadly
        self._hits: Counter[tuple[str, str, int, int]] = Counter()
        self._running: list[tuple[FrameType, str]] = []
        self.reached = reached
        # Whether anything is still to be noted, or to die of.
        self.is_armed = is_armed
        # The last stage whose body was begun.
        self.last_stage = ""

    def passes(self, point: str) -> None:
        """Look at lines from where a body is about to be called; everywhere else that would only cost time."""
        if self.is_armed and point == points.EXEC_CLAIMED:
            sys.settrace(self._on_call)
        elif point not in INSIDE_BODIES:
            self.stop()

    def stop(self) -> None:
        if sys.gettrace() == self._on_call:
            sys.settrace(self._before)

    @property
    def last_line(self) -> Line | None:
        """The line that is being run, while a body is."""
        return self.reached[-1] if self._running and self.reached else None

    def died(self) -> None:
        """What runs from here on is of no interest."""
        self.stop()
        self.is_armed = False
        self._running.clear()

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        stage_id = self._bodies.get(frame.f_code)
        if stage_id is not None:
            self._running.append((frame, stage_id))
            self.last_stage = stage_id
            return self._on_line
        if self._running and frame.f_code.co_filename == self._running[-1][0].f_code.co_filename:
            return self._on_line
        return None

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "return" and self._running and self._running[-1][0] is frame:
            self._running.pop()
        if event == "line" and self._running:
            self._reach(*self._running[-1], frame)
        return self._on_line

    def _reach(self, body: FrameType, stage_id: str, frame: FrameType) -> None:
        place = (stage_id, frame.f_code.co_filename, body.f_lineno, frame.f_lineno)
        self._hits[place] += 1
        line = Line(*place, hit=self._hits[place])
        self.reached.append(line)
        if line == self._deadly:
            self._deadly = None
            raise points.Crash
