"""Width and depth: a map over thousands of items, and a thousand child runs whose parent is cancelled half-way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.soak import watching
from tests.soak.report import Report
from tests.soak.servers import PostgresServer
from tests.soak.workers import Workers
from tests.soak.workflows import is_bad, is_deadly
from workflow_engine import cancel_run, create_run
from workflow_engine.models import RunNotice, StageRun, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN

ITEMS, CHILDREN, STAGES_OF_CHILD = 10_000, 1_000, 3
LONGEST_SECONDS = 1_200.0


def map_items(report: Report, workers: Workers, *, deadly: bool) -> None:
    """Map over 10,000 items of which one in a hundred fails (and, ``deadly``, one in a thousand kills its worker)."""
    name = f"map of {ITEMS:,} items" + (", some deadly" if deadly else "")
    with memory(workers) as sizes:
        began = time.monotonic()
        run = watching.asked(lambda: create_run("wide-deadly" if deadly else "wide", ITEMS))
        took = watching.wait(lambda: has_ended(run), LONGEST_SECONDS, 0.1)
    report.figure(name, f"{ITEMS / (took or 1):,.0f} items/s, {time.monotonic() - began:.1f} s")
    if sizes:
        report.figure(f"{name}: memory of a worker", f"{min(sizes):.0f} to {max(sizes):.0f} MB")
    report.check(took is not None, f"{name} has not ended: {watching.states()}")
    check_items(report, run, deadly=deadly)


def check_items(report: Report, run: WorkflowRun, *, deadly: bool) -> None:
    """Every item is accounted for: those that must fail have, each by what it did, and no other."""
    rows = StageRun.objects.filter(run=run, map_index__gte=0)
    wrong, seen = Counter[str](), 0
    for index, status, error, output in rows.values_list("map_index", "status", "error", "output").iterator():
        seen += 1
        expected = "WORKER_LOST" if deadly and is_deadly(index) else "STAGE_FAILED" if is_bad(index) else "COMPLETED"
        found = status if status == "COMPLETED" else (error or {}).get("code", status)
        if found != expected or (status == "COMPLETED" and output != {"json": str(index * 3)}):
            wrong[f"{expected} is {found}"] += 1
    report.check(seen == ITEMS, f"{seen} items of {ITEMS}")
    report.check(not wrong, f"items of run {run.pk}: {dict(wrong)}")
    run.refresh_from_db()
    good = [index * 3 for index in range(ITEMS) if not is_bad(index) and not (deadly and is_deadly(index))]
    report.check(run.status == "COMPLETED", f"run {run.pk} is {run.status}: {run.error}")
    report.check(run.get_output() == [len(good), sum(good)], f"run {run.pk} has the output {run.get_output()}")
    report.figure(f"items of {run.workflow}", str(dict(Counter(rows.values_list("status", flat=True)))))


def start_children(report: Report, *, cancel: bool) -> None:
    """Map over 1,000 child runs of three stages; cancel the parent when half of them have ended."""
    name = f"{CHILDREN:,} child runs" + (", cancelled half-way" if cancel else "")
    began = time.monotonic()
    run = watching.asked(lambda: create_run("household", CHILDREN))
    if cancel:
        half = watching.wait(lambda: ended_children(run) >= CHILDREN // 2, LONGEST_SECONDS, 0.1)
        report.check(half is not None, f"{name}: only {ended_children(run)} have ended")
        watching.asked(lambda: cancel_run(run, reason="half-way"))
    over = watching.wait(lambda: has_ended(run) and open_children(run) == 0, LONGEST_SECONDS, 0.1)
    report.check(over is not None, f"{name}: {open_children(run)} are open ({watching.states()})")
    told = watching.wait(lambda: watching.asked(RunNotice.objects.count) == 0, 60, 0.1)
    report.check(told is not None, f"{name}: {RunNotice.objects.count()} notices were not delivered")
    children = WorkflowRun.objects.filter(parent_run=run)
    statuses = dict(Counter(children.values_list("status", flat=True)))
    report.figure(name, f"{time.monotonic() - began:.1f} s, {statuses}")
    run.refresh_from_db()
    if cancel:
        report.check(run.status == "CANCELLED", f"{name}: the parent is {run.status}")
    else:
        report.check(statuses == {"COMPLETED": CHILDREN}, f"{name}: {statuses}")
        report.check(run.get_output() == [CHILDREN, sum(range(CHILDREN))], f"{name}: output {run.get_output()}")
    doubled = children.count() - children.values("parent_stage_run").distinct().count()
    report.check(doubled == 0, f"{name}: {doubled} stages have started two")


def check_log(report: Report, postgres: PostgresServer | None) -> None:
    """No transaction was ever a deadlock's victim."""
    if postgres is None:
        return
    text = postgres.log()
    report.figure("deadlocks in PostgreSQL's log", str(text.count("deadlock detected")))
    report.check("deadlock detected" not in text, "PostgreSQL has detected deadlocks")


def has_ended(run: WorkflowRun) -> bool:
    rows = WorkflowRun.objects.filter(pk=run.pk, status__in=FINISHED_RUN)
    return watching.asked(rows.exists)


def ended_children(run: WorkflowRun) -> int:
    return watching.asked(WorkflowRun.objects.filter(parent_run=run, status__in=FINISHED_RUN).count)


def open_children(run: WorkflowRun) -> int:
    return watching.asked(WorkflowRun.objects.filter(parent_run=run).exclude(status__in=FINISHED_RUN).count)


@contextmanager
def memory(workers: Workers) -> Iterator[list[float]]:
    """Note how many MB worker processes hold, again and again, until the end of the block."""
    done = threading.Event()
    sizes: list[float] = []

    def look() -> None:
        # Not while a process is starting.
        while not done.wait(1):
            for pid in workers.children():
                try:
                    process = psutil.Process(pid)
                    held = process.memory_info().rss / 1e6
                    # One that was just killed holds nothing.
                    if held and time.time() - process.create_time() > 5:
                        sizes.append(held)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join(5)
