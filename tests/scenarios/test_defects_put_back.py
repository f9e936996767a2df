"""The test of the tests: with the peer's defect put back, each test that says we have none of it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .defects import DEFECTS

PLUGIN = "tests.scenarios.defects"
ROOT = Path(__file__).parents[2]


@pytest.mark.one_database
def test_each_test_of_a_known_defect_fails_where_the_engine_has_it() -> None:
    # In a process of its own, with a database of its own: what is broken there is mended for nobody here.
    own = {name: value for name, value in os.environ.items() if not name.startswith("WFE_TEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-p", "no:cacheprovider", "-p", PLUGIN, *DEFECTS],
        cwd=ROOT, env=own, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip

    outcomes = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (tests/\S+)", run.stdout, re.MULTILINE)
    assert {verdict for verdict, _ in outcomes} == {"FAILED"}, run.stdout
    seen = {node for _, node in outcomes} | {node.split("[")[0] for _, node in outcomes}
    assert DEFECTS.keys() <= seen, run.stdout
