"""How many rows, bytes and files there are, and what that has cost so far."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from django.apps import apps
from django.conf import settings
from django.db import connection

Sample = dict[str, Any]
MOST_GROWTH, FEW = 1.1, 50


def sample(minute: float, created: int, processes: Iterable[int]) -> Sample:
    """Count everything now."""
    models = list(apps.get_app_config("workflow_engine").get_models())
    files, size, folders = _blobs(Path(settings.SCRATCH) / "blobs")
    return {
        "minute": round(minute, 2),
        "created": created,
        "rows": {model.__name__: model._default_manager.count() for model in models},
        "bytes": {model.__name__: _table_bytes(model._meta.db_table) for model in models},
        "blobs": files,
        "blob_bytes": size,
        "folders": folders,
        "cpu_seconds": round(sum(_cpu(pid) for pid in processes), 1),
        "database_cpu_seconds": round(_database_cpu(), 1),
        "machine_cpu_percent": psutil.cpu_percent(),
    }


def vacuum() -> None:
    """Do what autovacuum would, where a server of tests has it turned off: else tables never get their room back."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW autovacuum")
        if cursor.fetchone() == ("off",):
            cursor.execute("VACUUM")


def table(samples: Sequence[Sample], half: float) -> str:
    """Compare the ends of both halves, and the means of the ten minutes before, in Markdown."""
    first, second = _last_minutes(samples, half), _last_minutes(samples, 2 * half)
    if not first or not second:
        return "It did not last long enough."
    lines = [
        "| | after the first half | after the second | ratio | mean of its last 10 min | of the second's | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _figures(first[-1]):
        ends = (_figures(part[-1]).get(name, 0) for part in (first, second))
        means = (fmean(_figures(item).get(name, 0) for item in part) for part in (first, second))
        lines.append(f"| {name} | {_cells(*ends)} | {_cells(*means)} |")
    return "\n".join(lines)


def grown(samples: Sequence[Sample], half: float) -> list[str]:
    """Say which tables have more rows after the second half than is fine; those of a few rows are not judged."""
    first, second = _last_minutes(samples, half), _last_minutes(samples, 2 * half)
    if not first or not second:
        return ["It did not last long enough."]
    found = []
    for name, before in first[-1]["rows"].items():
        after = second[-1]["rows"][name]
        if after > max(before * MOST_GROWTH, FEW):
            found.append(f"{name} has grown from {before:,} to {after:,} rows.")
    return found


def _last_minutes(samples: Sequence[Sample], end: float, minutes: float = 10) -> list[Sample]:
    return [one for one in samples if end - minutes < one["minute"] <= end + 0.5]


def _figures(one: Sample) -> dict[str, float]:
    size = {f"{name}, MiB": round(count / 2**20, 2) for name, count in one["bytes"].items() if count > 2**20}
    files = {"blobs": one["blobs"], "blobs, MiB": round(one["blob_bytes"] / 2**20, 1), "folders": one["folders"]}
    return {**one["rows"], **size, **files}


def _cells(before: float, after: float) -> str:
    ratio = f"{after / before:.3f}" if before else ""
    return f"{before:,.6g} | {after:,.6g} | {ratio}"


def _blobs(folder: Path) -> tuple[int, int, int]:
    files = size = folders = 0
    for path, _, names in os.walk(folder):
        folders += 1
        for name in names:
            try:
                size += (Path(path) / name).stat().st_size
                files += 1
            except FileNotFoundError:
                continue
    return files, size, folders


def _table_bytes(name: str) -> int:
    statements = {
        "postgresql": "SELECT pg_total_relation_size(%s::regclass)",
        "mysql": "SELECT data_length + index_length FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name = %s",
        "sqlite": "SELECT SUM(pgsize) FROM dbstat WHERE name = %s",
    }
    with connection.cursor() as cursor:
        try:
            cursor.execute(statements[connection.vendor], [name])
            return int(cursor.fetchone()[0] or 0)
        except Exception:
            return 0


def _cpu(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _database_cpu() -> float:
    """Of the connections that are open now: PostgreSQL's processes name their database."""
    name = f" {connection.settings_dict['NAME']} "
    total = 0.0
    for process in psutil.process_iter(["name", "cmdline"]):
        if "postgres" in (process.info["name"] or "") and name in " ".join(process.info["cmdline"] or ()):
            total += _cpu(process.pid)
    return total
