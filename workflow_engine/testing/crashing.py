"""``crash_test``: a workflow is run again and again, and each time its worker dies somewhere else."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import Error, connections, transaction

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.registry import get_workflow, registered_workflows, registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel, create_kernel, points
from workflow_engine.kernel.commands import ReapStaleLeases, ReapStuckRuns
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.running import create_run
from workflow_engine.statuses import FINISHED_RUN

from .clock import FakeClock
from .crash_report import CrashReport, Death, Repeated
from .driving import MAX_ROUNDS, go_on
from .effects import Effects, count_effects, undo_mails
from .kernels import SilentTransport
from .lines import Line, LineTracer

# A place that is passed more often after the same body is died at only so many times: what holds for two items holds
# for a thousand, and at most turns of a worker nothing is due.
MOST_HITS = 2
# Longer than any lease.
LEASE = timedelta(minutes=10)


def crash_test(
    workflow: Workflow[Any, Any] | str,
    input: Any = None,
    *,
    effects: Callable[[], Mapping[str, float]] | None = None,
    reset: Callable[[], None] | None = None,
    answers: Mapping[str, Any] | None = None,
    **options: Any,
) -> CrashReport:
    """Run a workflow once as it is, and once more for each place at which its worker may die; return what was unsafe.

    The worker dies before every line of every body, and at every step of the engine's own. Another one takes over, and
    the run must end as it did without a death, with each effect as often. Every run is rolled back at its end.

    Call it in a test that may use the database. What a body does is repeated in this process, so services are to be
    fakes: a ``finally`` of the body is still run, which a real death leaves out.

    Args:
        effects: returns how much was done so far, by name, such as ``{"charges": len(bank.charges)}``. Rows of the
            project's models and mails in ``django.core.mail.outbox`` are counted anyway.
        reset: called before each run: it makes fakes forget.
        answers, options: as of ``run_workflow``.

    Raises:
        AssertionError: the run does not end even if nobody dies.
    """
    trial = _Trial(workflow, input, effects, reset, answers or {}, options)
    calm = trial.run(None)
    deaths = [trial.run(death) for death in _deaths(calm)]
    return CrashReport(
        workflow_id=trial.workflow.id,
        status=calm.status,
        effects=calm.done,
        deaths=len(deaths),
        repeated=tuple(found for one in deaths if one.status == calm.status for found in _compare(calm, one)),
        # How it ended, or the error of the database that nothing could go on after.
        changed=tuple((one.death, one.status) for one in deaths if one.death and one.status != calm.status),
    )


@dataclass(slots=True)
class _Run:
    """How one run went."""

    death: Death | None
    status: str = ""
    done: Mapping[str, float] = field(default_factory=dict)
    # What was passed on the way to the death, or to the end: points of the engine, and lines of bodies.
    passed: list[Death] = field(default_factory=list)
    reached: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class _Trial:
    given: Workflow[Any, Any] | str
    input: Any
    effects: Effects | None
    reset: Callable[[], None] | None
    answers: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def workflow(self) -> Workflow[Any, Any]:
        return get_workflow(self.given) if isinstance(self.given, str) else self.given

    def run(self, death: Death | None) -> _Run:
        """Do one run, which dies once; whatever it has written is undone."""
        if self.reset is not None:
            self.reset()
        run, ports = _Run(death), get_kernel().ports
        clock = FakeClock(ports.clock.now())
        kernel = create_kernel(
            using=ports.using, clock=clock, transport=SilentTransport(), blobs=InMemoryBlobStore(), limits=ports.limits
        )
        extra = [self.workflow] if self.workflow not in registered_workflows() else []
        with ExitStack() as stack:
            for around in (_quiet(), undo_mails(), use_kernel(kernel), registry_override(*extra, keep=True)):
                stack.enter_context(around)
            # Whatever it breaks, the database is as it was before.
            stack.enter_context(_undone(ports.using))
            before = count_effects(ports.using, self.effects)
            run.status = self._drive(kernel, clock, run)
            after = before if connections[ports.using].needs_rollback else count_effects(ports.using, self.effects)
        run.done = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        return run

    def _drive(self, kernel: Kernel, clock: FakeClock, run: _Run) -> str:
        row: WorkflowRun | None = None
        # Whoever creates a run and dies asks again with the same key.
        key = uuid.uuid4().hex
        with _watched(run) as tracer:
            for _ in range(MAX_ROUNDS):
                try:
                    row = row or create_run(self.given, self.input, **{"idempotency_key": key, **self.options})
                    row = go_on(InlineHost(kernel), row, clock, self.answers)
                except points.Crash:
                    tracer.died()
                    clock.advance(LEASE)
                    kernel.dispatch(ReapStaleLeases())
                    kernel.dispatch(ReapStuckRuns())
                    # Nothing runs beside it here, and a child process would not see the test's transaction.
                    StageRun.objects.using(kernel.ports.using).filter(suspect=True).update(suspect=False)
                    continue
                except Error as error:
                    if run.death is None:
                        raise
                    # The repeated body has broken the test's own transaction; nothing goes on in there.
                    return type(error.__cause__ or error).__name__
                if row.status in FINISHED_RUN:
                    return row.status
        where = "" if run.death is None else f", after a death at {run.death}"
        raise AssertionError(f"the run has not ended after {MAX_ROUNDS} rounds{where}")


@contextmanager
def _watched(run: _Run) -> Iterator[LineTracer]:
    """Note the points and lines that are passed; die where the run is to die."""
    line = run.death.line if run.death else None
    is_armed = run.death is None or line is not None
    tracer = LineTracer(registered_workflows(), line, run.reached, is_armed=is_armed)
    hits: Counter[str] = Counter()

    def pass_by(name: str) -> None:
        tracer.passes(name)
        hits[name] += 1
        here = Death(tracer.last_stage, point=name, hit=hits[name], after=tracer.last_line)
        run.passed.append(here)
        if run.death is not None and (name, hits[name]) == (run.death.point, run.death.hit):
            raise points.Crash

    before = points.install(pass_by)
    try:
        yield tracer
    finally:
        tracer.stop()
        points.install(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of workers that are lost on purpose."""
    log = logging.getLogger("workflow_engine")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _undone(using: str) -> Iterator[None]:
    with transaction.atomic(using=using):
        try:
            yield
        finally:
            transaction.set_rollback(True, using=using)


def _deaths(calm: _Run) -> Iterator[Death]:
    """Yield where to die: before each line of a body, in their order, and at each point of the engine."""
    before: dict[str, Line] = {}
    for line in calm.reached:
        if line.hit <= MOST_HITS:
            yield Death(line.stage_id, line=line, after=before.get(line.stage_id))
        before[line.stage_id] = line
    passes: Counter[tuple[str, str]] = Counter()
    for death in calm.passed:
        passes[death.point, death.stage_id] += 1
        if passes[death.point, death.stage_id] <= MOST_HITS:
            yield death


def _compare(calm: _Run, other: _Run) -> Iterator[Repeated]:
    """Yield the effects that were not done as often as without a death."""
    assert other.death is not None
    for name in sorted({*calm.done, *other.done}):
        expected, found = calm.done.get(name, 0), other.done.get(name, 0)
        if expected != found:
            yield Repeated(other.death, name, expected, found)
