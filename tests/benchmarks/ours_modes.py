"""What is measured of our engine only: creating, idling, the gap between stages, the admin's list, async waits."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median

from tests.benchmarks.ours import Ours
from tests.benchmarks.peers.driver import mark, poll, tell, until_finished, warm_up
from tests.benchmarks.peers.usage import cpu_seconds, family

SETTLE_SECONDS = 3.0
IDLE_STARTS = 20
WAITING_RUNS = 1_000
POLLED_RUNS, SUBMIT_SECONDS, POLL_SECONDS = 2_000, 40.0, 10.0


def creating(ours: Ours, mode: str = "create") -> None:
    """Time ``create_run`` in one process, or count what it sends; nobody runs the runs."""
    for _ in range(20):
        ours.create()
    mark("begin")
    begin = time.perf_counter()
    for _ in range(ours.spec.runs):
        ours.create()
    seconds = time.perf_counter() - begin
    mark("end")
    tell(mode=mode, runs=ours.spec.runs, seconds=seconds)


def idling(ours: Ours) -> None:
    """Watch workers that have nothing to do, then see how soon a single new run starts."""
    ours.start()
    done = warm_up(ours, ours.spec)
    time.sleep(SETTLE_SECONDS)
    mark("begin")
    cpu, begin = cpu_seconds(family(ours.pids())), time.perf_counter()
    time.sleep(ours.spec.idle_seconds)
    cpu, seconds = cpu_seconds(family(ours.pids())) - cpu, time.perf_counter() - begin
    mark("end")
    starts = []
    for _ in range(IDLE_STARTS):
        # Not in step with the workers' polling.
        time.sleep(random.uniform(0.3, 0.7))
        handle = ours.create()
        ours.wait(handle)
        created, began = stamps(ours, handle)[:2]
        starts.append((began - created) * 1000)
    ours.verify(done + IDLE_STARTS)
    tell(mode="idle", seconds=seconds, cpu=cpu, processes=ours.spec.processes, ms=starts)


def gaps(ours: Ours) -> None:
    """Time from the end of one body to the begin of the next, by the stamps that the bodies make."""
    ours.start()
    done = warm_up(ours, ours.spec)
    taken: list[float] = []
    runs, end = 0, time.monotonic() + ours.spec.alone_seconds
    while runs < ours.spec.alone and time.monotonic() < end:
        runs += 1
        handle = ours.create()
        ours.wait(handle)
        # Created, then begin and end of each body: the gaps are between an end and the begin after it.
        inner = stamps(ours, handle)[2:-1]
        taken += [(began - ended) * 1000 for ended, began in zip(inner[::2], inner[1::2], strict=True)]
    ours.verify(done + runs)
    tell(mode="gaps", ms=taken)


def stamps(ours: Ours, handle: uuid.UUID) -> list[float]:
    from workflow_engine.models import WorkflowRun

    times: list[float] = WorkflowRun.objects.get(pk=handle).get_output()
    assert all(earlier <= later + 0.001 for earlier, later in pairwise(times)), times
    return times


def admin_list(ours: Ours) -> None:
    """Time the first page of the admin's list of runs, rendered in this process."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("bench", password="bench"))
    taken = []
    for _ in range(12):
        begin = time.perf_counter()
        response = client.get("/admin/workflow_engine/workflowrun/")
        taken.append((time.perf_counter() - begin) * 1000)
        assert response.status_code == 200, response.status_code
    tell(mode="admin", ms=median(taken[2:]))


def waiting(ours: Ours) -> None:
    """Run 1,000 ``async def`` stages that wait for a second each, in one process."""
    ours.start()
    done = warm_up(ours, ours.spec)
    begin = time.perf_counter()
    ours.create_many(WAITING_RUNS)
    until_finished(ours, done + WAITING_RUNS)
    tell(mode="waits", seconds=time.perf_counter() - begin, runs=WAITING_RUNS)
    ours.verify(done + WAITING_RUNS)


def polling(ours: Ours) -> None:
    """Suspend 2,000 stages whose checks fall due within ten seconds, a minute from now; see how late each is made.

    That is 200 checks a second: as many as 10,000 suspended stages make within an hour take a minute here.
    """
    from workflow_engine import create_run
    from workflow_engine.models import StageRun, WorkflowRun

    ours.start()
    begin = time.perf_counter()
    for _ in range(POLLED_RUNS):
        elapsed = time.perf_counter() - begin
        create_run("polls", SUBMIT_SECONDS - elapsed + random.uniform(0, POLL_SECONDS))
    poll(lambda: StageRun.objects.filter(status="SUSPENDED").count() == POLLED_RUNS, seconds=SUBMIT_SECONDS, every=0.5)
    mark("begin")
    until_finished(ours, POLLED_RUNS)
    mark("end")
    ours.verify(POLLED_RUNS)
    late = [run.get_output() * 1000 for run in WorkflowRun.objects.filter(workflow="polls").iterator()]
    tell(mode="polls", runs=POLLED_RUNS, ms=late)


def history(ours: Ours) -> None:
    """Do one run whose rows the harness then copies a million times."""
    ours.start()
    ours.wait(ours.create())
    ours.verify(1)


MODES: dict[str, Callable[[Ours], None]] = {
    "create": creating,
    "create-count": partial(creating, mode="create-count"),
    "idle": idling,
    "gaps": gaps,
    "admin": admin_list,
    "waits": waiting,
    "polls": polling,
    "history": history,
}
