"""The faults, one function each, under the load that the caller keeps up."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from redis import RedisError

from tests.soak import watching
from tests.soak.journal import entered_by, entries
from tests.soak.load import Load
from tests.soak.report import Report, spread
from tests.soak.servers import PostgresServer
from tests.soak.workers import Workers
from tests.transports.rq.servers import RedisServer
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.conf import get_setting
from workflow_engine.kernel import Kernel
from workflow_engine.models import StageAttempt, StageRun
from workflow_engine.transports.database import DatabaseTransport

# What a figure may be above its goal on a machine that is busy with tests.
SLACK_SECONDS = 2.0
# Workers that are told to stop one after the other while the others go on.
TOGETHER = 5


def kill_workers(report: Report, workers: Workers, load: Load, *, every: float, seconds: float) -> None:
    """SIGKILL a random worker process again and again."""
    end = time.monotonic() + seconds
    with load.flowing(), killing(workers, every) as killed:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 15))
            report.say(f"killed {len(killed)}, unfinished runs {watching.unfinished()}, stages {watching.states()}")
    report.figure("workers killed", str(len(killed)))
    drained = watching.wait(lambda: watching.unfinished() == 0, 120)
    report.figure("all runs ended after the last kill", f"{drained:.1f} s" if drained is not None else "not in 120 s")
    report.check(drained is not None, f"kills: {watching.unfinished()} runs open after 120 s ({watching.states()})")
    report.figure("a killed attempt began again after", spread(again_after_loss()))


@contextmanager
def killing(workers: Workers, every: float) -> Iterator[list[int]]:
    """Kill worker processes inside the block; the list fills with those that were."""
    done = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not done.wait(every * random.uniform(0.5, 1.5)):
            if children := workers.children():
                with suppress(ProcessLookupError):
                    os.kill(victim := random.choice(children), signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join(10)


def again_after_loss() -> list[float]:
    """Return for each attempt that was lost how long after its death (its last beat is not known: its begin) the next
    attempt began."""
    began = {entry.key: entry.at for entry in entries() if entry.kind == "in"}
    waits = []
    lost = StageAttempt.objects.filter(outcome="lost")
    for run_id, stage, item, attempt in lost.values_list("run_id", "stage", "stage_run__map_index", "attempt"):
        first, second = (began.get((str(run_id), stage, item, number)) for number in (attempt, attempt + 1))
        if first and second:
            waits.append(second - first)
    return waits


def flush_redis(report: Report, workers: Workers, redis: RedisServer, load: Load, processes: int) -> None:
    """Empty Redis under load, and then while bells hang in it that nobody has heard."""
    goal = 2 * get_setting("TICK_SECONDS") + SLACK_SECONDS
    with redis.client() as client:
        there = load.burst(40)
        client.flushall()
        _finished(report, "FLUSHALL under load: runs ended", load, there, goal)
        back = watching.wait(lambda: client.scard("rq:workers") >= processes, 60)
        report.figure("FLUSHALL: workers registered again", f"{back:.1f} s" if back is not None else "not in 60 s")
        report.goal(back is not None, "FLUSHALL: workers did not register again")
        watching.wait(lambda: watching.unfinished() == 0, 60)
        with frozen(workers):
            unheard = load.burst(40)
            bells = client.llen("rq:queue:workflows")
            client.flushall()
        report.say(f"flushed {bells} bells that nobody had heard")
        _finished(report, "FLUSHALL of unheard bells: runs ended", load, unheard, goal)
    with silent():
        unrung = load.burst(40)
    _finished(report, "no bell was ever rung: runs ended", load, unrung, goal)


def _finished(report: Report, name: str, load: Load, runs: list, goal: float) -> None:  # type: ignore[type-arg]
    took = watching.wait(lambda: watching.unfinished(runs) == 0, 60)
    report.figure(name, f"{took:.1f} s, goal {goal:g} s" if took is not None else "not in 60 s")
    report.goal(took is not None and took <= goal, f"{name}: {took} s, goal {goal:g} s ({watching.states()})")


@contextmanager
def silent() -> Iterator[None]:
    """Let what is done inside the block ring no bells."""
    ports = replace(get_kernel().ports, transport=DatabaseTransport())
    with use_kernel(Kernel(ports)):
        yield


@contextmanager
def frozen(workers: Workers) -> Iterator[None]:
    """Let no worker process do anything inside the block."""
    children = workers.children()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)


def stop_redis(report: Report, redis: RedisServer, load: Load, *, seconds: float, processes: int) -> None:
    """Stop Redis for a while; runs go on being created and done meanwhile."""
    with load.flowing():
        time.sleep(5)
        before = len(load.created)
        redis.stop()
        report.say(f"Redis is away for {seconds:g} s")
        time.sleep(seconds)
        during = load.created[before:]
        redis.start()
    report.say("Redis is back, and empty")
    with redis.client() as client:
        steady = watching.wait(lambda: _listening(client) >= processes, 60)
    report.figure("Redis back: all workers listen after", f"{steady:.1f} s" if steady is not None else "not in 60 s")
    report.goal(steady is not None, "Redis back: not all workers listen")
    after = load.burst(20)
    watching.wait(lambda: watching.unfinished([*during, *after]) == 0, 60)
    report.check(len(during) > 0, "Redis away: no run could be created")
    report.figure("Redis away: create_run took", spread([item.seconds for item in during]))
    report.figure("Redis away: runs took", spread(watching.latencies(during)))
    report.figure("Redis back: runs took", spread(watching.latencies(after)))
    slow = max((item.seconds for item in during), default=0.0)
    report.goal(slow < 5, f"Redis away: create_run took {slow:.1f} s")
    late = max(watching.latencies(during), default=0.0)
    report.goal(late < 15, f"Redis away: a run took {late:.1f} s")


def _listening(client) -> int:  # type: ignore[no-untyped-def]
    try:
        return int(client.info("clients")["blocked_clients"])
    except RedisError:
        return 0


def restart_postgres(report: Report, postgres: PostgresServer, load: Load, *, times: int) -> None:
    """Crash PostgreSQL under load and start it again: the first time at once, then after pauses that grow."""
    with load.flowing():
        for number in range(1, times + 1):
            _restart(report, postgres, number)
    drained = watching.wait(lambda: watching.unfinished() == 0, 60)
    report.figure("PostgreSQL back: all runs ended after", f"{drained:.1f} s" if drained is not None else "not in 60 s")
    report.goal(drained is not None, f"PostgreSQL back: runs stay open ({watching.states()})")


def _restart(report: Report, postgres: PostgresServer, number: int) -> None:
    time.sleep(5)
    postgres.crash()
    crashed = time.time()
    time.sleep(6 * (number - 1))
    postgres.start()
    up = time.time()
    watching.wait(lambda: watching.first_end_after(up) is not None, 60)
    first = watching.first_end_after(up)
    took = first - up if first is not None else None
    name = f"PostgreSQL restart {number} (away {up - crashed:.1f} s): first new stage ended after"
    report.figure(name, f"{took:.2f} s, goal 5 s" if took is not None else "not in 60 s")
    report.goal(took is not None and took <= 5, f"{name} {took}")


def restart_worker(report: Report, load: Load, *, times: int, threads: int, seed: int) -> None:
    """SIGTERM workers under load, a few at a time, again and again; with and without the time to finish what they run.

    Nothing may be lost or charged to a budget by it, and each ends at most 2 s after its grace time.
    """
    chance, before = random.Random(seed), _budgets()
    took: list[float] = []
    over: list[float] = []
    for number in range(0, times, TOGETHER):
        graces = [10.0 if one % 2 == 0 else 0.2 for one in range(number, min(times, number + TOGETHER))]
        workers = [_single(number + place, grace, threads) for place, grace in enumerate(graces)]
        ready = watching.wait(lambda them=workers: all(worker.said("started") for worker in them), 120)  # type: ignore[misc]
        report.check(ready is not None, f"SIGTERM {number}: not all workers have started in 120 s")
        load.burst(10 * len(workers))
        load.burst(4 * len(workers), "long")
        for worker, grace in zip(workers, graces, strict=True):
            _drain(report, worker, grace, chance, took, over)
        report.say(f"{len(took)} workers were told to stop")
    report.figure("SIGTERM: times", f"{len(took)}, seed {seed}")
    report.figure("SIGTERM: the worker ended after", spread(took))
    report.figure("SIGTERM: most beyond the grace time", f"{max(over):.2f} s, goal 2 s")
    released = StageAttempt.objects.filter(outcome="released").count()
    after = _budgets()
    report.figure("SIGTERM: attempts released", str(released))
    burnt = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    report.figure("SIGTERM: budgets burnt", str(burnt) if burnt else "none")
    report.check(not burnt, f"SIGTERM: budgets burnt: {burnt}")
    report.check(released > 0, "SIGTERM: no attempt was ever released, so this has shown little")


def _single(number: int, grace: float, threads: int) -> Workers:
    return Workers("--threads", str(threads), "--grace", str(grace), "--name", f"single-{number}")


def _drain(
    report: Report, worker: Workers, grace: float, chance: random.Random, took: list[float], over: list[float]
) -> None:
    """Tell one to stop while it runs something, and look at what it leaves."""
    number, pid = len(took), worker.process.pid
    working = watching.wait(lambda: entered_by(pid) > 0, 120, 0.02)
    report.check(working is not None, f"SIGTERM {number}: the worker began nothing in 120 s")
    time.sleep(chance.uniform(0, 1))
    began = time.monotonic()
    code = worker.stop()
    took.append(time.monotonic() - began)
    over.append(took[-1] - grace)
    report.check(code == 0, f"SIGTERM {number}: exit code {code}")
    report.check(over[-1] <= 2, f"SIGTERM {number}: took {took[-1]:.1f} s with grace {grace:g} s")
    ids = [event["worker_id"] for event in worker.said("started")]
    running = StageRun.objects.filter(status="RUNNING", worker__in=ids).count()
    report.check(running == 0, f"SIGTERM {number}: {running} stages are RUNNING after the worker's end")


def _budgets() -> dict[str, int]:
    """Count what a drain must not spend: attempts lost, or failed by anything but what the stages raise on purpose."""
    failed = StageAttempt.objects.filter(outcome__in=("failed", "retrying")).exclude(error_class__contains="Flaky")
    return {
        "lost": StageAttempt.objects.filter(outcome="lost").count(),
        "failed": failed.count(),
        "crashes": StageRun.objects.filter(crashes__gt=0).count(),
    }
