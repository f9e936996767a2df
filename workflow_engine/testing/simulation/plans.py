"""Small workflows whose outputs are hashes of their inputs, each with a model in plain Python: any mix-up shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connections

from workflow_engine.definitions import (
    Completion,
    Limit,
    Output,
    Retry,
    Stage,
    StageContext,
    Wait,
    Workflow,
    define_workflow,
    stage,
)
from workflow_engine.kernel import points

from .database import ALIAS

RETRY = Retry(max_attempts=4, initial=timedelta(seconds=1))
PATIENT = Retry(max_attempts=30, initial=timedelta(seconds=1), maximum=timedelta(seconds=5))
Expected = Callable[[Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A workflow that schedules run.

    Attributes:
        input: text of the schedule's own -> the input of a run.
        expected: input -> the outputs that a completed run may have; None: it is not compared.
        answers: name of a wait -> the answers that are given, one of them or several at a time.
        ends: the statuses in which a run may end, besides CANCELLED.
        needs: further workflows that must be registered, such as those of child runs.
        effects: ids of the stages that write an effect when they complete.
        rerun: the stages from which a run may be run again.
        weight: how often it is chosen, beside the others.
    """

    workflow: Workflow[Any, Any]
    input: Callable[[str], Any] = str
    expected: Expected | None = None
    answers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ends: tuple[str, ...] = ("COMPLETED",)
    needs: tuple[Workflow[Any, Any], ...] = ()
    effects: frozenset[str] = frozenset()
    rerun: tuple[str, ...] = ()
    weight: int = 1

    @property
    def id(self) -> str:
        return self.workflow.id


def digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def effect(ctx: StageContext[Any, Any]) -> None:
    """Write down that a stage has had its effect; every call gives one more row."""
    values = (str(ctx.run_id), ctx.stage_id, -1 if ctx.item_index is None else ctx.item_index, ctx.generation)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("INSERT INTO sim_effect VALUES (%s, %s, %s, %s)", values)


def hashing(id: str, **options: Any) -> Stage[str, None, str]:
    @stage(id, retry=RETRY, **options)
    def body(ctx: StageContext[str]) -> str:
        return digest(id, ctx.input)

    return body


@stage("first", retry=RETRY)
def first(ctx: StageContext[str]) -> str:
    ctx.on_complete(lambda: effect(ctx))
    return digest("first", ctx.input)


def _line(*ids: str) -> Expected:
    def expected(value: Any) -> tuple[Any, ...]:
        for id in ids:
            value = digest(id, value)
        return (value,)

    return expected


line: Workflow[str, str] = (
    define_workflow("sim-line", input=str).pipe(first).pipe(hashing("second")).pipe(hashing("third")).build()
)


@stage("join", retry=RETRY)
def join(ctx: StageContext[dict[str, str]]) -> str:
    return digest("join", *(ctx.input[key] for key in sorted(ctx.input)))


SIDES = ("left", "middle", "right")
fan: Workflow[str, str] = (
    define_workflow("sim-fan", input=str)
    .pipe(hashing("open"))
    .parallel(*[hashing(id) for id in SIDES])
    .pipe(join)
    .build()
)


def _fan(value: Any) -> tuple[Any, ...]:
    opened = digest("open", value)
    return (digest("join", *(digest(id, opened) for id in SIDES)),)


ASK = Wait("ask", str, max_wait=timedelta(seconds=40), default="by default")


@stage("never", when=Output("open") == "never", retry=RETRY)
def never(ctx: StageContext[str]) -> str:
    raise AssertionError("its condition does not hold")


@stage("ask", waits=[ASK], retry=RETRY)
def ask(ctx: StageContext[str]) -> str:
    return digest("ask", ctx.input, ctx.wait_for(ASK))


@stage("nap", retry=RETRY)
def nap(ctx: StageContext[str]) -> str:
    ctx.sleep(timedelta(seconds=8))
    return digest("nap", ctx.input)


def _now() -> str:
    """Return the database's time as text: hosts' clocks may be wrong here."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT sim_now()")
        return str(cursor.fetchone()[0])


@stage("batch", retry=RETRY, check_retry=PATIENT)
def batch(ctx: StageContext[str]) -> str:
    ctx.suspend({"result": digest("batch", ctx.input), "since": _now()}, poll_every=timedelta(seconds=4))


@batch.check_completion
def batch_done(ctx: StageContext[str], state: dict[str, str]) -> Completion[str]:
    # Within the ten seconds in which it began it is not complete.
    return Completion.ready(state["result"]) if _now()[:18] > state["since"][:18] else Completion.pending()


asking: Workflow[str, str] = (
    define_workflow("sim-asking", input=str).pipe(hashing("open")).pipe(never).pipe(ask).pipe(nap).build()
)


def _asking(value: Any) -> tuple[Any, ...]:
    opened = digest("open", value)
    return tuple(digest("nap", digest("ask", opened, answer)) for answer in ("yes", "no", "by default"))


polling: Workflow[str, str] = define_workflow("sim-polling", input=str).pipe(batch).pipe(hashing("last")).build()


@stage("draft", retry=PATIENT)
def draft(ctx: StageContext[str]) -> str:
    # No two attempts give the same, so whoever reads another one's notices.
    return digest("draft", ctx.input, str(ctx.attempt))


drafting: Workflow[str, str] = define_workflow("sim-drafting", input=str).pipe(draft).pipe(hashing("print")).build()


def _drafting(value: Any) -> tuple[Any, ...]:
    return tuple(digest("print", digest("draft", value, str(attempt))) for attempt in range(1, 40))


@stage("items", retry=RETRY)
def items(ctx: StageContext[str]) -> list[str]:
    return [f"{ctx.input}-{number}" for number in range(3 + len(ctx.input) % 2)]


@stage("together", retry=RETRY)
def together(ctx: StageContext[list[str]]) -> str:
    return digest("together", *ctx.input)


mapping: Workflow[str, str] = (
    define_workflow("sim-mapping", input=str).pipe(items).map(hashing("item"), max_parallel=2).pipe(together).build()
)


def _mapping(value: Any) -> tuple[Any, ...]:
    parts = [f"{value}-{number}" for number in range(3 + len(value) % 2)]
    return (digest("together", *(digest("item", part) for part in parts)),)


@stage("reserve", atomic=True, timeout=timedelta(seconds=10), retry=PATIENT)
def reserve(ctx: StageContext[str]) -> str:
    effect(ctx)
    return digest("reserve", ctx.input)


@stage("pay", retry=RETRY)
def pay(ctx: StageContext[str]) -> str:
    charge: str = ctx.once("charge", lambda: digest("pay", ctx.input))
    ctx.on_complete(lambda: effect(ctx))
    return charge


paying: Workflow[str, str] = define_workflow("sim-paying", input=str).pipe(reserve).pipe(pay).build()
child: Workflow[str, str] = define_workflow("sim-child", input=str).pipe(hashing("small")).pipe(hashing("big")).build()


@stage("delegate", retry=RETRY)
def delegate(ctx: StageContext[str]) -> str:
    return ctx.run_child(child, ctx.input)


family: Workflow[str, str] = define_workflow("sim-family", input=str).pipe(delegate).pipe(hashing("after")).build()
crowded: Workflow[str, str] = (
    define_workflow("sim-crowded", input=str, concurrency=Limit(1)).pipe(hashing("one")).pipe(hashing("two")).build()
)


@stage("poison", retry=RETRY)
def poison(ctx: StageContext[str]) -> str:
    raise points.Crash


poisoned: Workflow[str, str] = define_workflow("sim-poisoned", input=str).pipe(hashing("open")).pipe(poison).build()


@stage("fails", retry=Retry(max_attempts=2, initial=timedelta(seconds=1)))
def fails(ctx: StageContext[str]) -> str:
    raise ValueError("always")


failing: Workflow[str, str] = (
    define_workflow("sim-failing", input=str)
    .pipe(hashing("open"))
    .parallel(fails, hashing("beside"))
    .pipe(join)
    .build()
)

PLANS = (
    Plan(line, expected=_line("first", "second", "third"), effects=frozenset({"first"}), rerun=("first", "second")),
    Plan(fan, expected=_fan, rerun=("open", "left", "join")),
    Plan(asking, expected=_asking, answers={"ask": ("yes", "no")}, rerun=("open", "ask", "nap")),
    Plan(polling, expected=_line("batch", "last"), rerun=("batch", "last"), weight=2),
    Plan(drafting, expected=_drafting, rerun=("draft", "print")),
    Plan(mapping, expected=_mapping, rerun=("items", "item", "together")),
    Plan(paying, expected=_line("reserve", "pay"), effects=frozenset({"reserve", "pay"}), rerun=("reserve", "pay")),
    Plan(family, expected=_line("small", "big", "after"), needs=(child,), rerun=("delegate", "after")),
    Plan(crowded, expected=_line("one", "two"), rerun=("one",)),
    Plan(poisoned, ends=("FAILED",), rerun=("poison",)),
    Plan(failing, ends=("FAILED",), rerun=("open",)),
)
