"""The load: what a body does is decided by its input alone, so that the outcome of each run is known beforehand."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from django.db import connection

from tests.soak.journal import recorded
from tests.soak.workflows import EXPECTED as BASIC
from tests.soak.workflows import SOON, Flaky, digest
from workflow_engine import Completion, Stage, StageContext, define_workflow, register, stage

LEAVES = 8
EFFECTS = "soak_effect"


def share(*parts: str) -> float:
    """Return a number from 0 up to 1 that depends on the texts alone."""
    return int(hashlib.sha256("|".join(parts).encode()).hexdigest()[:8], 16) / 2**32


def work(id: str, *, effect: bool = False) -> Stage[str, None, str]:
    """20 to 200 ms; one in fifty takes seconds, and one in a hundred raises at its first attempt.

    ``effect``: it also writes a row in the transaction that completes it.
    """

    @stage(id, retry=SOON)
    def body(ctx: StageContext[str]) -> str:
        with recorded(ctx):
            chance, length = share("work", id, ctx.input), share("length", id, ctx.input)
            time.sleep(2 + 2 * length if chance < 0.02 else 0.02 + 0.18 * length)
            if chance > 0.99 and ctx.attempt == 1:
                raise Flaky("on purpose, the first attempt")
            if effect:
                row = [str(ctx.run_id), ctx.stage_id, ctx.generation]
                ctx.on_complete(lambda: _write_effect(row))
            return digest(id, ctx.input)

    return body


def _write_effect(row: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {EFFECTS} (run_id, stage, generation) VALUES (%s, %s, %s)", row)


@stage("poll", check_retry=SOON)
def poll(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        ctx.suspend({"polls": 1 + int(3 * share("polls", ctx.input))}, poll_every=timedelta(seconds=0.5))


@poll.check_completion
def polled(ctx: StageContext[str], state: dict[str, int]) -> Completion[str]:
    done = share("ready", ctx.input, str(int(time.time() * 2))) < 1 / state["polls"]
    return Completion.ready(digest("poll", ctx.input)) if done else Completion.pending()


@stage("deadly")
def deadly(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("this process is dead")


@stage("outlive")
def outlive(ctx: StageContext[str]) -> str:
    """Take longer than a lease."""
    with recorded(ctx):
        time.sleep(6 + 2 * share("outlive", ctx.input))
        return digest("outlive", ctx.input)


@stage("collect")
def collect(ctx: StageContext[dict[str, str]]) -> str:
    with recorded(ctx):
        return digest("collect", *(ctx.input[key] for key in sorted(ctx.input)))


def _chain(id: str, *stages: Stage[Any, Any, Any]) -> None:
    builder = define_workflow(id, input=str).pipe(stages[0])
    for item in stages[1:]:
        builder = builder.pipe(item)
    register(builder.build())


LINE = ("read", "parse", "weigh", "keep")
PARTS = [f"part-{number}" for number in range(1, LEAVES + 1)]
_chain("line", *(work(id, effect=id == "keep") for id in LINE))
_chain("poison", work("before"), deadly)
_chain("lengthy", work("before"), outlive, work("after"))
_chain("pause", work("before"), poll, work("after"))
register(define_workflow("spread", input=str).pipe(work("split")).parallel(*map(work, PARTS)).pipe(collect).build())


def _through(*ids: str) -> Callable[[str], str]:
    def output(text: str) -> str:
        for id in ids:
            text = digest(id, text)
        return text

    return output


def _spread(text: str) -> str:
    start = digest("split", text)
    return digest("collect", *(digest(part, start) for part in sorted(PARTS, key=lambda id: id.replace("-", "_"))))


# Workflow -> its output for an input; None: it must fail.
EXPECTED: dict[str, Callable[[str], str] | None] = {
    **BASIC,
    "line": _through(*LINE),
    "spread": _spread,
    "poison": None,
    "lengthy": _through("before", "outlive", "after"),
    "pause": _through("before", "poll", "after"),
}
# Workflow -> how often it is created, beside the others; and those that may be rerun, from which of their stages.
MIX = {
    "line": 46, "spread": 14, "pause": 10, "waits": 5, "flaky": 4, "crowd": 5, "mapped": 5, "async": 3, "slow": 2,
    "doomed": 2, "lengthy": 2, "family": 1, "apart": 1,
}  # fmt: skip
RERUN = {"line": LINE, "spread": ("split", *PARTS, "collect"), "pause": ("before", "poll", "after")}
# One run in so many kills its worker each time; the first of them comes early, so that short lanes see its end.
POISON_EVERY, FIRST_POISON = 300, 6
# The first runs, and what else is wanted of them at once: no lane is so short or so lucky that it sees less than this.
# A line lasts longer than its client needs to ask for a rerun (refused); of two cancels the odd one waits (too late).
FIRST = {1: ("flaky", ""), 2: ("waits", "cancel"), 3: ("line", "cancel"), 4: ("line", "rerun"), 5: ("line", "again")}


def workflow_of(seed: int, number: int) -> str:
    """Return the workflow of a run by its number alone."""
    if number % POISON_EVERY == FIRST_POISON:
        return "poison"
    if number in FIRST:
        return FIRST[number][0]
    return Random(f"{seed} {number}").choices(list(MIX), list(MIX.values()))[0]
