"""Watching a run: a table that moves in a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

from workflow_engine.models import WorkflowRun
from workflow_engine.statuses import OPEN_RUN

from .changes import changed, in_words
from .command import EngineCommand
from .looking import StageLine, answer_command, now, stages_of
from .printing import clock


class View(Protocol):
    """Shows a run while it goes on."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is."""
        return None

    def change(self, status: str) -> None:
        """Look at the run again: its status or a stage of it has changed."""
        ...

    def note(self, text: str) -> None:
        """Tell the reader something; any thread may call it."""
        ...


def view_of(run: WorkflowRun, command: EngineCommand, *, watch: bool, as_json: bool, no_color: bool) -> View:
    """Return the view that fits what was asked for and where the output goes."""
    if not watch:
        return SilentView(run, command, as_json=as_json)
    if as_json:
        return JsonView(run, command)
    if command.stdout.isatty() and find_spec("rich"):
        from .table import TableView, fits

        out: Any = getattr(command.stdout, "_out", command.stdout)
        if fits(out):
            return TableView(run, out, no_color=no_color)
    return LineView(run, command)


class SilentView:
    """Shows nothing but notes, and those to people only; and what waits for an answer, since that may take days."""

    def __init__(self, run: WorkflowRun, command: EngineCommand, *, as_json: bool) -> None:
        self._run, self._told = run, set[str]()
        self._say: Callable[[str], None] = command.stderr.write if as_json else command.say

    def __enter__(self) -> SilentView:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is."""
        return None

    def change(self, status: str) -> None:
        for line in stages_of(self._run):
            text = line.question
            if text and text not in self._told:
                self._told.add(text)
                self.note(f"{text} Answer it with: {answer_command(self._run, line)}")

    def note(self, text: str) -> None:
        self._say(text)


class _Changes(ABC):
    """Remembers what was shown."""

    def __init__(self, run: WorkflowRun, command: EngineCommand) -> None:
        self._run, self._command = run, command
        self._before: tuple[StageLine, ...] = ()
        self._status = ""

    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is."""
        return None

    def change(self, status: str) -> None:
        stages, is_new = stages_of(self._run), status != self._status
        if is_new and status in OPEN_RUN:
            self.show_run(status)
        for old, line in changed(self._before, stages):
            self.show_stage(old, line)
        if is_new and status not in OPEN_RUN:
            self.show_run(status)
        self._before, self._status = stages, status

    @abstractmethod
    def show_run(self, status: str) -> None: ...

    @abstractmethod
    def show_stage(self, old: StageLine | None, line: StageLine) -> None: ...


class LineView(_Changes):
    """One line whenever something changes: for logs of CI systems, pipes and simple terminals."""

    def __enter__(self) -> LineView:
        stages = self._run.plan["groups"]
        self._width = max(len(item["id"]) for group in stages for item in group["stages"])
        return self

    def show_run(self, status: str) -> None:
        self._line("run", status.lower())

    def show_stage(self, old: StageLine | None, line: StageLine) -> None:
        self._line(line.stage_id, in_words(old, line))

    def note(self, text: str) -> None:
        self._command.say(text)

    def _line(self, subject: str, words: str) -> None:
        self._command.say(f"{clock(now())}  {subject:<{self._width}}  {words}")


class JsonView(_Changes):
    """One JSON object per line whenever something changes."""

    def __enter__(self) -> JsonView:
        return self

    def show_run(self, status: str) -> None:
        self._print("run", {"status": status})

    def show_stage(self, old: StageLine | None, line: StageLine) -> None:
        self._print("stage", line.as_json())

    def note(self, text: str) -> None:
        self._command.stderr.write(text)

    def _print(self, event: str, data: dict[str, Any]) -> None:
        self._command.say_json({"event": event, "at": now(), "run_id": self._run.pk, **data})
