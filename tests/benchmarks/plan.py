"""What is measured in which order."""

from __future__ import annotations

from tests.benchmarks import limits
from tests.benchmarks.growth import measure_growth
from tests.benchmarks.session import Session
from tests.benchmarks.systems import SYSTEMS


def carry_out(session: Session) -> None:
    """Measure everything that was asked for: rounds over all systems, then what is measured once."""
    limits.make_tables(session.servers)
    session.prepare()
    rounds = session.options.rounds
    for number in range(1, rounds + 1):
        session.say(f"round {number} of {rounds}: what the machine allows")
        limits.measure(session.servers, session.figures, session.options.seconds / 2)
        one_round(session)
    counts(session)
    only_ours(session)
    if session.options.growth and session.ours:
        session.measure(session.ours, "chain5", ["flood", "flood"], runs=5_000, key="memory")
        measure_growth(session, session.options.growth)


def one_round(session: Session) -> None:
    """Each system once with each workload, so that what disturbs the machine disturbs them all."""
    for workload in (*session.options.workloads, "single"):
        for name, system in SYSTEMS.items():
            if session.has(name) and workload in system.workloads and not is_left_out(session, name, workload):
                session.measure(name, workload, ["alone", "flood"])
        if workload == "chain5" and session.ours:
            more_processes(session, session.ours)
    if not session.options.quick and "chain5" in session.options.workloads:
        for name, system in SYSTEMS.items():
            if session.has(name) and system.has_backlog and "chain5" in system.workloads:
                session.measure(name, "chain5", ["backlog"])
    if session.ours:
        session.measure(session.ours, "chain5", ["create"])


def is_left_out(session: Session, name: str, workload: str) -> bool:
    """Say whether a quick run has no time for this."""
    if not session.options.quick:
        return False
    if name == "ours-db":
        return session.ours != name
    return workload == "group10" and name not in (session.ours, "dbos", "celery")


def more_processes(session: Session, name: str) -> None:
    for processes in session.options.processes:
        if processes != SYSTEMS[name].processes:
            session.measure(name, "chain5", ["flood"], processes=processes)


def counts(session: Session) -> None:
    for name, system in SYSTEMS.items():
        for workload in session.options.workloads:
            wanted = workload in system.workloads and not (session.options.quick and workload != "chain5")
            if session.has(name) and wanted and system.variant != "sqlite" and not is_left_out(session, name, workload):
                session.measure(name, workload, ["count"], runs=200)


def only_ours(session: Session) -> None:
    """What has no counterpart in other systems."""
    if not (name := session.ours):
        return
    if name != "ours-sqlite":
        session.measure(name, "chain5", ["create-count"], runs=200)
        session.measure(name, "gaps-queued", ["gaps"], alone=40)
        session.measure(name, "gaps-queued", ["count"], runs=100)
    session.measure(name, "gaps", ["gaps"], alone=40)
    session.measure(name, "chain5", ["admin"])
    for transport in ("ours", "ours-db"):
        if session.has(transport):
            session.measure(transport, "gaps", ["idle"])
    if not session.options.quick:
        session.measure(name, "waits", ["waits"], processes=1, limit_seconds=20)
    session.measure(name, "chain5", ["map"], key=f"{name}/2/map", limit_seconds=120)
    session.measure(name, "heard", ["events"], key=f"{name}/2/heard", limit_seconds=120)
    session.measure(name, "limited", ["alone", "flood"], limit_seconds=120)
    session.measure(name, "polls", ["polls"], limit_seconds=90)
