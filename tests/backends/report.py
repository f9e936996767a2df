"""A pytest plugin: write the counts and the closing words of a run to the file that ``WFE_TEST_REPORT`` names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# An expected failure is counted with the skipped: it shows neither that something works nor that it broke.
COUNTED = {"passed": ("passed",), "failed": ("failed", "error", "xpassed"), "skipped": ("skipped", "xfailed")}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    counts = {name: sum(len(stats.get(key, ())) for key in keys) for name, keys in COUNTED.items()}
    words = ", ".join(text for text, _markup in terminalreporter.build_summary_stats_line()[0])
    Path(os.environ["WFE_TEST_REPORT"]).write_text(json.dumps({**counts, "words": words}))
