"""Sphinx configuration. The pages are plain Markdown: the table of contents is added here, not in the text."""

from __future__ import annotations

from typing import Any

project = "workflow_engine"
author = "workflow_engine contributors"
copyright = author
release = version = "0.1.0"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "workflow_engine"

CONTENTS = {
    "Start": ["tutorial"],
    "How to": [
        "how-to/start-a-run",
        "how-to/many-runs",
        "how-to/configure-stages",
        "how-to/retries-and-timeouts",
        "how-to/effects",
        "how-to/approvals",
        "how-to/pause",
        "how-to/limits",
        "how-to/wait-for-work",
        "how-to/timers",
        "how-to/conditions",
        "how-to/events",
        "how-to/schedules",
        "how-to/webhooks",
        "how-to/maps",
        "how-to/child-runs",
        "how-to/large-data",
        "how-to/run-workers",
        "how-to/deploy",
        "how-to/queues",
        "how-to/rq",
        "how-to/rerun",
        "how-to/testing",
        "how-to/http-api",
        "how-to/doctor",
        "how-to/admin",
    ],
    "Explanation": [
        "explanation/architecture",
        "explanation/life-of-a-run",
        "explanation/guarantees",
        "explanation/evidence",
        "explanation/comparison",
        "explanation/crash-points",
        "explanation/simulation",
        "explanation/chaos",
        "explanation/fuzzing",
        "explanation/hot-queries",
        "explanation/performance",
    ],
    "Reference": [
        "reference/definitions",
        "reference/context",
        "reference/running",
        "reference/settings",
        "reference/commands",
        "reference/events",
        "reference/errors",
        "reference/models",
        "reference/testing",
        "reference/http",
    ],
    "Operations": ["operations"],
}


def add_contents(app: Any, docname: str, source: list[str]) -> None:
    """Append the table of contents to the index, where a forge would show its directives as code."""
    if docname == "index":
        for caption, pages in CONTENTS.items():
            source[0] += "\n".join(["\n\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])


def setup(app: Any) -> None:
    app.connect("source-read", add_contents)
