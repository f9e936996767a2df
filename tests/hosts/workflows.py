"""Workflows for supervised processes: one that is held until a file is there, and one that grows its process."""

from __future__ import annotations

import threading
from pathlib import Path

from workflow_engine.definitions import StageContext, define_workflow, register, stage

MIB = 1024 * 1024
_held: list[bytes] = []


@stage("hold")
def hold(ctx: StageContext[str]) -> str:
    ctx.progress(1, "begun")
    while not Path(ctx.input).exists():
        threading.Event().wait(0.02)
    return ctx.input


@stage("grow")
def grow(ctx: StageContext[int]) -> int:
    _held.append(b"x" * (ctx.input * MIB))
    return ctx.input


holding = register(define_workflow("holding", input=str).pipe(hold).build())
growing = register(define_workflow("growing", input=int).pipe(grow).build())
