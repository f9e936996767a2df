"""Bodies that end in every way there is, in files that child processes can import too. Their input is a dict."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from workflow_engine import Completion, Wait
from workflow_engine.definitions import NonRetryableError, Retry, RetryAfter, StageContext, Workflow, stage
from workflow_engine.definitions import define_workflow as define

Context = StageContext[dict[str, Any]]
WORKFLOWS: dict[str, Workflow[Any, Any]] = {}
RETRY = Retry(max_attempts=3, initial=timedelta(seconds=7), jitter=0)


def body(function: Callable[[Context], Any], **options: Any) -> Callable[[Context], Any]:
    """Make a workflow of one stage of the function, with its name as id."""
    name = function.__name__.replace("_", "-")
    made = stage(name, retry=RETRY, **options)(function)
    WORKFLOWS[name] = define(name, input=dict[str, Any]).pipe(made).build()
    return function


def isolated(function: Callable[[Context], Any]) -> Callable[[Context], Any]:
    return body(function, isolation="process")


def short(function: Callable[[Context], Any]) -> Callable[[Context], Any]:
    return body(function, isolation="process", timeout=timedelta(seconds=0.5))


@body
async def succeeds(ctx: Context) -> dict[str, Any]:
    ctx.log.info("said")
    ctx.progress(50, "half")
    ctx.metric("rows", 12)
    ctx.annotate("fact", {"deep": [1, None]}, actor="somebody", idempotency_key="k", emit_event=True)
    return {"seen": ctx.input, "attempt": ctx.attempt}


@body
async def raises(ctx: Context) -> None:
    ctx.metric("rows", 1)
    raise ValueError("really")


@body
async def asks_for_later(ctx: Context) -> None:
    raise RetryAfter(timedelta(seconds=90), "not yet")


@body
async def gives_up(ctx: Context) -> None:
    raise NonRetryableError("never")


@body
async def exits(ctx: Context) -> None:
    raise SystemExit(3)


@body
async def is_interrupted(ctx: Context) -> None:
    raise KeyboardInterrupt


@body
async def gives_nonsense(ctx: Context) -> dict[str, int]:
    return {"number": "no number"}  # type: ignore[dict-item]


@body
async def asks_for_nothing_there(ctx: Context) -> None:
    await ctx.arequire("nowhere")


@body
async def gives_much(ctx: Context) -> str:
    ctx.artifact("report.txt", "report")
    return "x" * 100_000


@isolated
def tells_its_process(ctx: Context) -> dict[str, Any]:
    return {"pid": os.getpid(), "pythonpath": os.environ.get("PYTHONPATH"), "main": _is_main()}


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


@isolated
def breaks_memory(ctx: Context) -> None:
    ctypes.string_at(0)


@isolated
def leaves(ctx: Context) -> None:
    os._exit(3)


@isolated
def leaves_at_the_first_attempt(ctx: Context) -> int:
    if ctx.attempt == 1:
        os._exit(4)
    return ctx.attempt


@isolated
def is_killed(ctx: Context) -> None:
    ctx.log.info("just before")
    _wait_for(ctx.input["go"])
    os.kill(os.getpid(), signal.SIGKILL)


@short
def sleeps(ctx: Context) -> None:
    time.sleep(600)


@short
def spins(ctx: Context) -> None:
    while True:
        pass


@short
def leaves_a_program(ctx: Context) -> None:
    program = subprocess.Popen(["sleep", "600"])
    Path(ctx.input["pids"]).write_text(f"{os.getpid()} {program.pid}\n")
    program.wait()


@isolated
def waits(ctx: Context) -> None:
    Path(ctx.input["pids"]).write_text(f"{os.getpid()}\n")
    time.sleep(600)


@isolated
def prints(ctx: Context) -> str:
    for _ in range(1_000):
        print('{"output": {"json": "1"}, "notes": {}}', flush=True)  # noqa: T201
    os.write(2, b"to stderr\n")
    return "printed"


@isolated
def is_asked_to_end(ctx: Context) -> str:
    for signum in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), signum)
    time.sleep(0)
    return "still here"


@isolated
def shows_itself(ctx: Context) -> str:
    ctx.log.info("while it runs")
    ctx.progress(30, "under way")
    _wait_for(ctx.input["go"])
    return "seen"


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


@isolated
def remembers_its_process(ctx: Context) -> list[int]:
    first = ctx.once("attempt", lambda: ctx.attempt)
    if ctx.attempt == 1:
        raise ConnectionError("later")
    return [first, ctx.attempt]


QUESTION = Wait("question", int)


@stage("waits-in-its-process", isolation="process", waits=[QUESTION], retry=RETRY, check_retry=RETRY)
async def waits_in_its_process(ctx: Context) -> list[int]:
    async def pid() -> int:
        return os.getpid()

    first = await ctx.aonce("pid", pid)
    await ctx.asleep(timedelta(seconds=0.05), name="nap")
    answer = await ctx.await_for(QUESTION)
    await ctx.asuspend([first, answer], poll_every=timedelta(seconds=0.05))


@waits_in_its_process.check_completion
def is_done(ctx: Context, state: list[int]) -> Completion[list[int]]:
    marker = Path(ctx.input["marker"])
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        return Completion.pending()
    return Completion.ready([*state, os.getpid()])


WORKFLOWS["waits-in-its-process"] = (
    define("waits-in-its-process", input=dict[str, Any]).pipe(waits_in_its_process).build()
)
