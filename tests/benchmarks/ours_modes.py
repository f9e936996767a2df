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
from tests.benchmarks.peers.usage import cpu_seconds, family, memories

SETTLE_SECONDS = 3.0
IDLE_STARTS = 20
WAITING_RUNS = 1_000
MAP_ITEMS, MAP_CALM_SECONDS = 10_000, 15.0
POLLED_RUNS, SUBMIT_SECONDS, POLL_SECONDS = 2_000, 40.0, 10.0
HEARD_SECONDS, HEARD_RUNS = 15.0, 1_000


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


def mapping(ours: Ours) -> None:
    """Map a stage over 10,000 items while short runs go on coming, and compare those with some that came before."""
    from workflow_engine import create_run
    from workflow_engine.models import WorkflowRun

    ours.start()
    done = warm_up(ours, ours.spec)
    for _ in range(3):
        ours.wait(create_run("map", 1_000).pk)
    calm = time.monotonic() + MAP_CALM_SECONDS
    before = arriving(ours, lambda: time.monotonic() > calm)
    memory = memories(ours.pids())
    begin = time.perf_counter()
    mapped = create_run("map", MAP_ITEMS).pk
    during = arriving(ours, lambda: WorkflowRun.objects.filter(pk=mapped, finished_at__isnull=False).exists())
    seconds = time.perf_counter() - begin
    ours.verify(done + len(before) + len(during))
    assert WorkflowRun.objects.get(pk=mapped).get_output() == MAP_ITEMS * (MAP_ITEMS - 1) // 2
    later = memories(ours.pids())
    grown = [later[pid] - memory[pid] for pid in memory if pid in later]
    run = WorkflowRun.objects.get(pk=mapped)
    lasted = (run.finished_at - run.started_at).total_seconds()
    tell(mode="map", items=MAP_ITEMS, seconds=lasted, waited=seconds, before=before, during=during, grown=grown)


def arriving(ours: Ours, is_over: Callable[[], bool]) -> list[float]:
    """Create a short run now and then until ``is_over``; return how long each took, in milliseconds."""
    from workflow_engine.models import WorkflowRun

    handles = []
    while not is_over():
        handles.append(ours.create())
        time.sleep(random.uniform(0.05, 0.15))
    for handle in handles:
        ours.wait(handle)
    times = WorkflowRun.objects.filter(pk__in=handles).values_list("created_at", "finished_at")
    return [(finished - created).total_seconds() * 1000 for created, finished in times]


def hearing(ours: Ours) -> None:
    """Note how long after its time each event of a run reaches its plugin, while runs come now and then; then flood."""
    from tests.benchmarks.app.plugins import notes
    from workflow_engine.models import EventCursor, OutboxEvent

    def heard() -> list[list[str]]:
        return [line.split() for path in notes() for line in path.read_text().splitlines()]

    def until_heard() -> None:
        def is_all_heard() -> bool:
            return not (OutboxEvent.objects.filter(pending=True).exists() or EventCursor.objects.exists())

        poll(is_all_heard, seconds=ours.spec.limit_seconds, every=0.05)

    for path in notes():
        path.unlink()
    ours.start()
    done = warm_up(ours, ours.spec)
    until_heard()
    before = len(heard())
    end = time.monotonic() + HEARD_SECONDS
    runs = len(arriving(ours, lambda: time.monotonic() > end))
    until_heard()
    calm = heard()[before:]
    begin = time.perf_counter()
    ours.create_many(HEARD_RUNS)
    until_finished(ours, done + runs + HEARD_RUNS)
    until_heard()
    seconds = time.perf_counter() - begin
    events = OutboxEvent.objects.filter(run__workflow="heard").count()
    found = heard()
    assert len(found) == len({(run, sequence) for run, sequence, _ in found}) == events, (len(found), events)
    ours.verify(done + runs + HEARD_RUNS)
    late = [float(seconds) * 1000 for _, _, seconds in calm]
    tell(mode="events", ms=late, events=len(found) - before - len(calm), seconds=seconds, runs=HEARD_RUNS)


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
    "map": mapping,
    "events": hearing,
    "history": history,
}
