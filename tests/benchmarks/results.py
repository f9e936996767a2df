"""The JSON of a benchmark, and where it is written."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.environment import REQUIREMENTS, ROOT
from tests.benchmarks.goals import GOALS
from tests.benchmarks.picture import draw
from tests.benchmarks.session import Session

OUTPUT = ROOT / "build" / "bench"
DOCS = ROOT / "docs" / "explanation"


def results(session: Session) -> dict[str, Any]:
    figures, ours = session.figures, session.ours
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "servers": session.servers.facts(),
        "versions": versions(),
        "options": asdict(session.options),
        "ours": ours,
        "not_measured": session.missing,
        "failed": session.failed,
        "goals": [
            {
                "goal": goal.what.strip(),
                "bound": goal.bound,
                "at_least": goal.at_least,
                "unit": goal.unit,
                "measured": goal.find(figures, ours),
                "reached": goal.reached(figures, ours),
            }
            for goal in (GOALS if ours else ())
            if ours
        ],
        "figures": figures.summary(),
    }


def versions() -> dict[str, str]:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    peers = {name.partition("[")[0]: number for name, _, number in (line.partition("==") for line in lines)}
    return {**peers, "workflow_engine": version("django-durable-workflows")}


def write(session: Session, *, to_docs: bool) -> list[Path]:
    """Write the JSON and the picture to build/bench, and to the documentation if asked; return the paths."""
    data = results(session)
    places = [OUTPUT, DOCS] if to_docs else [OUTPUT]
    written = []
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in {
            "performance.json": json.dumps(data, indent=1, ensure_ascii=False) + "\n",
            "performance.svg": draw(session.figures),
        }.items():
            (place / name).write_text(text)
            written.append(place / name)
    return written
