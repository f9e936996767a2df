"""The systems that are measured, and what each can do."""

from __future__ import annotations

from dataclasses import dataclass

ALL = ("chain5", "group10", "payload10k")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``pace``: a first guess of runs per second, so that the first round has about the right size."""

    name: str
    label: str
    module: str
    variant: str = ""
    database: str
    workloads: tuple[str, ...] = ALL
    processes: int = 2
    pace: int
    durable: str = "yes"
    is_peer: bool = True
    has_backlog: bool = True


OURS = "tests.benchmarks.ours"
PEERS = "tests.benchmarks.peers"
SYSTEMS = {
    system.name: system
    for system in (
        Measured(
            name="ours", label="workflow_engine, RQ", module=OURS, variant="rq", database="ours",
            pace=200, is_peer=False,
        ),
        Measured(
            name="ours-db", label="workflow_engine, database transport", module=OURS, variant="database",
            database="ours", pace=100, is_peer=False,
        ),
        Measured(
            name="ours-sqlite", label="workflow_engine, SQLite", module=OURS, variant="sqlite", database="",
            processes=1, pace=100, is_peer=False,
        ),
        Measured(
            name="dbos", label="DBOS, direct call, 8 threads", module=f"{PEERS}.dbos_peer", variant="direct",
            database="dbos", processes=1, pace=80, has_backlog=False,
        ),
        Measured(
            name="dbos-queue", label="DBOS, its queue, 10 ms polling", module=f"{PEERS}.dbos_peer", variant="queue",
            database="dbos", pace=50,
        ),
        Measured(
            name="celery", label="Celery, prefork, Redis", module=f"{PEERS}.celery_peer", database="",
            pace=130, durable="no",
        ),
        Measured(
            name="procrastinate", label="Procrastinate, jobs deferring the next", database="procrastinate",
            module=f"{PEERS}.procrastinate_peer", workloads=("chain5", "payload10k"), pace=80, durable="job by job",
        ),
        Measured(
            name="tasks-db", label="django-tasks-db, single tasks", module=f"{PEERS}.tasks_peer", database="tasks",
            workloads=("single",), pace=400, durable="job by job",
        ),
    )
}  # fmt: skip
