"""The closing tables of a benchmark, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.benchmarks.figures import Figures, ratio
from tests.benchmarks.goals import GOALS
from tests.benchmarks.systems import SYSTEMS

WORKLOADS = {
    "chain5": "chain5: five steps, one after the other",
    "group10": "group10: ten steps in parallel, then a join",
    "payload10k": "payload10k: five steps, each passing on 10 kB",
    "single": "single: one task (a system without workflows)",
}
HEAD = (
    "system", "proc", "runs/s", "low-high", "steps/s", "ours ÷", "backlog", "p50 ms", "p99 ms",
    "CPU", "CPU srv", "MB", "stmts", "commits", "trips", "Redis",
)  # fmt: skip
LEGEND = """proc: worker processes. runs/s: median of the rounds, first create to last end, creating included.
low-high: the rounds. ours ÷: our runs/s with 2 processes divided by theirs. backlog: steps/s with all runs created
before the workers start. p50, p99: one run alone, create to end. CPU, CPU srv: milliseconds per step of the workers
and of the local servers. MB: the largest worker process. Per step: statements without transaction control, commits of
transactions that wrote, round trips to the database, Redis commands; creating the run included."""


def text(figures: Figures, *, ours: str | None, missing: Mapping[str, str], failed: Sequence[str]) -> str:
    """Return all tables; ``ours`` is the variant that stands for us, None if none was measured."""
    parts = [limits(figures)]
    parts += [f"{title}\n{body}" for name, title in WORKLOADS.items() if (body := workload(figures, name, ours))]
    parts += [LEGEND]
    if ours:
        parts += [goals(figures, ours), *growth(figures)]
    parts += [f"not measured: {name}: {reason}" for name, reason in missing.items()]
    parts += [f"FAILED: {reason}" for reason in failed]
    return "\n\n".join(parts)


def limits(figures: Figures) -> str:
    rows = [("what the machine allows", "per s", "low-high")]
    for name, title in {
        "commits/1": "durable commits, 1 client",
        "commits/8": "durable commits, 8 clients",
        "floor5/1": "stage by hand, 5 round trips, 1 process",
        "floor5/2": "stage by hand, 5 round trips, 2 processes",
        "floor7/1": "stage by hand, 7 round trips, 1 process",
        "floor7/2": "stage by hand, 7 round trips, 2 processes",
    }.items():
        key = f"limits/{name}/per_s"
        rows.append((title, number(figures.median(key)), span(figures.spread(key))))
    return columns(rows)


def workload(figures: Figures, name: str, ours: str | None) -> str:
    """Return the table of one workload, or nothing if no system did it."""
    reference = figures.median(f"{ours}/{SYSTEMS[ours].processes}/{name}/runs_per_s") if ours else None
    rows = [
        row(figures, system, processes, name, reference)
        for system in SYSTEMS
        for processes in (1, 2, 4, 8)
        if figures.median(f"{system}/{processes}/{name}/runs_per_s") is not None
    ]
    return columns([HEAD, *rows]) if rows else ""


def row(figures: Figures, system: str, processes: int, name: str, reference: float | None) -> tuple[str, ...]:
    def shown(figure: str, how: Callable[[float | None], str] = lambda value: number(value)) -> str:
        return how(figures.median(f"{system}/{processes}/{name}/{figure}"))

    key = f"{system}/{processes}/{name}"
    return (
        SYSTEMS[system].label, str(processes), shown("runs_per_s"), span(figures.spread(f"{key}/runs_per_s")),
        shown("steps_per_s"), number(ratio(reference, figures.median(f"{key}/runs_per_s"))),
        shown("backlog_steps_per_s"), number(figures.percentile(f"{key}/alone_ms", 0.5)),
        number(figures.percentile(f"{key}/alone_ms", 0.99)), shown("cpu_workers_ms"), shown("cpu_servers_ms"),
        shown("rss_mb"), shown("statements"), shown("commits"), shown("round_trips"), shown("redis_commands"),
    )  # fmt: skip


def goals(figures: Figures, ours: str) -> str:
    rows = [("goal (2 worker processes)", "bound", "measured", "")]
    for goal in GOALS:
        sign = "≥" if goal.at_least else "≤"
        verdict = {True: "reached", False: "MISSED", None: "not measured"}[goal.reached(figures, ours)]
        value = number(goal.find(figures, ours))
        rows.append((goal.what, f"{sign} {goal.bound:g} {goal.unit}".strip(), value, verdict))
    note = "" if ours == "ours" else f"\n(measured with: {SYSTEMS[ours].label})"
    return columns(rows) + note


def growth(figures: Figures) -> list[str]:
    sizes = sorted({int(name.split("/")[1]) for name in figures.values if name.startswith("growth/")})
    if not sizes:
        return []
    rows: list[tuple[str, ...]] = [("finished runs", "runs/s", "p50 ms", "p99 ms", "admin ms")]
    for size in sizes:
        key = f"growth/{size}"
        alone = (figures.percentile(f"{key}/alone_ms", share) for share in (0.5, 0.99))
        rows.append(
            (
                f"{size:,}",
                number(figures.median(f"{key}/runs_per_s")),
                *map(number, alone),
                number(figures.median(f"{key}/admin_ms")),
            )
        )
    return [columns(rows)]


def number(value: float | None) -> str:
    """Return three digits that matter: ``1,234``, ``12.3``, ``0.123``; ``-`` for what was not measured."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def span(spread: tuple[float, float] | None) -> str:
    return "-" if spread is None else f"{number(spread[0])}-{number(spread[1])}"


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Align: text to the left in the first column, numbers to the right in the others."""
    listed = list(rows)
    widths = [max(len(cells[place]) for cells in listed) for place in range(len(listed[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(line))
        for line in ([*zip(cells, widths, strict=True)] for cells in listed)
    )
