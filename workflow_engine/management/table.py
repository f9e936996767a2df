"""The watch view of a terminal: a table that redraws itself. Needs ``rich``."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workflow_engine.graphs.durations import spell
from workflow_engine.graphs.words import one_line
from workflow_engine.models import WorkflowRun
from workflow_engine.statuses import StageStatus

from .changes import retry_in_words
from .looking import NOT_YET, StageLine, stages_of
from .printing import error_line

_BAR_WIDTH, _NARROW_BAR_WIDTH, _NARROW = 20, 10, 110
# Symbol, the letter that stands for it where it cannot be written, and style.
_LOOKS = {
    NOT_YET: ("·", ".", "dim"),
    StageStatus.PENDING: ("○", "o", "dim"),
    StageStatus.RUNNING: ("●", "*", "cyan"),
    StageStatus.SUSPENDED: ("‖", "=", "magenta"),
    StageStatus.COMPLETED: ("✓", "+", "green"),
    StageStatus.FAILED: ("✗", "x", "bold red"),
    StageStatus.SKIPPED: ("↷", "-", "dim"),
    StageStatus.CANCELLED: ("⊘", "-", "yellow"),
}
_RETRYING = ("↻", "r", "yellow")


def fits(out: TextIO) -> bool:
    """Tell whether a table can move in this terminal."""
    return not Console(file=out).is_dumb_terminal


class TableView:
    """One row per stage, from the start of the run to its end; what runs shows how long it has."""

    def __init__(self, run: WorkflowRun, out: TextIO, *, no_color: bool) -> None:
        self._run, self._status, self._note = run, run.status, ""
        self._stages: tuple[StageLine, ...] = ()
        self._began = time.monotonic()
        self._console = Console(file=out, no_color=no_color or None)
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=8)
        self._exit = ExitStack()

    def __enter__(self) -> TableView:
        self._exit.enter_context(self._live)
        self._exit.enter_context(_logs_above())
        return self

    def __exit__(self, *_: object) -> None:
        self._note = ""
        self._exit.close()

    def change(self, status: str) -> None:
        self._stages, self._status = stages_of(self._run), status

    def note(self, text: str) -> None:
        self._note = text

    @property
    def _bar_width(self) -> int:
        return _BAR_WIDTH if self._console.width >= _NARROW else _NARROW_BAR_WIDTH

    def _draw(self) -> RenderableType:
        table = Table(
            box=None, pad_edge=False, caption=Text(self._note) if self._note else None, caption_justify="left"
        )
        table.add_column("")
        table.add_column("stage", no_wrap=True)
        table.add_column("try", justify="right")
        table.add_column("progress", min_width=self._bar_width)
        table.add_column("", justify="right", min_width=len("100%"))
        table.add_column("took", justify="right", min_width=len("59.9 s"), no_wrap=True)
        table.add_column("", no_wrap=True, overflow="ellipsis")
        for line in self._stages:
            table.add_row(*self._row(line))
        elapsed = spell(timedelta(seconds=round(time.monotonic() - self._began)))
        return Group(Text(f"{self._run.workflow}  {self._status}  {elapsed}", style="bold", end="\n"), table)

    def _row(self, line: StageLine) -> tuple[RenderableType, ...]:
        symbol, letter, style = _look(line)
        return (
            Text(symbol if self._console.encoding.startswith("utf") else letter, style=style),
            Text(line.stage_id, style=style if line.status == NOT_YET else ""),
            str(line.attempt or ""),
            _bar(line, self._bar_width),
            f"{line.percent:.0f}%" if line.percent is not None and _moves(line) else "",
            spell(line.duration) if line.duration is not None else "",
            Text(_message(line), style=style),
        )


def _look(line: StageLine) -> tuple[str, str, str]:
    if line.retry_at:
        return _RETRYING
    return _LOOKS[StageStatus.RUNNING if line.runs_items else line.status]


def _moves(line: StageLine) -> bool:
    return line.is_running or line.runs_items


def _bar(line: StageLine, width: int) -> RenderableType:
    if line.status == StageStatus.COMPLETED:
        return ProgressBar(total=100, completed=100, width=width)
    if line.percent is None and not _moves(line):
        return ""
    return ProgressBar(total=100, completed=line.percent or 0, width=width, pulse=line.percent is None)


def _message(line: StageLine) -> str:
    if line.retry_at:
        return retry_in_words(line)
    if line.remark and not line.error:
        return one_line(line.remark)
    if line.error and not line.is_running:
        return error_line(line.error)
    return one_line(line.message) if line.is_running else line.status.lower() if line.attempt else ""


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let warnings that go to the terminal stand above the table; what is below a warning, the table shows."""
    handlers = [handler for handler in _stream_handlers() if handler.stream in (sys.__stdout__, sys.__stderr__)]
    before = [(handler, handler.stream, handler.level) for handler in handlers]
    for handler, stream, level in before:
        handler.setStream(sys.stdout if stream is sys.__stdout__ else sys.stderr)
        handler.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for handler, stream, level in before:
            handler.setStream(stream)
            handler.setLevel(level)


def _stream_handlers() -> Iterator[logging.StreamHandler[TextIO]]:
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from (item for item in logger.handlers if isinstance(item, logging.StreamHandler))
