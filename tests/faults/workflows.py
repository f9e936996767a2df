"""Workflows for processes that are killed: each stage's output is a hash of its input, so that any mix-up shows."""

from __future__ import annotations

import hashlib

from workflow_engine.definitions import StageContext, Workflow, define_workflow, register, stage
from workflow_engine.definitions.stages import Stage

LARGE = 100_000


def digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def hashing(id: str) -> Stage[str, None, str]:
    @stage(id)
    def body(ctx: StageContext[str]) -> str:
        ctx.progress(50, "half-way")
        ctx.log.info("hashing", stage=ctx.stage_id)
        # Large enough for the blob store.
        ctx.artifact("digest.txt", digest(id, ctx.input))
        return digest(id, ctx.input) + "x" * LARGE

    return body


@stage("join")
def join(ctx: StageContext[dict[str, str]]) -> str:
    ctx.progress(50, "half-way")
    return digest("join", *(ctx.input[key] for key in sorted(ctx.input)))


MIDDLE = ("left", "middle", "right")
crashing: Workflow[str, str] = register(
    define_workflow("crashing", input=str)
    .pipe(hashing("first"))
    .pipe(hashing("second"))
    .parallel(*map(hashing, MIDDLE))
    .pipe(join)
    .build()
)


def expected(text: str) -> str:
    """Return the output of a run: a model of the plan in plain Python."""
    second = digest("second", digest("first", text) + "x" * LARGE) + "x" * LARGE
    middle = {name: digest(name, second) + "x" * LARGE for name in MIDDLE}
    return digest("join", *(middle[key] for key in sorted(middle)))
