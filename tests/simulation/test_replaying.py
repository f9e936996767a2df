"""The same seed gives the same schedule, in this process and in any other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_engine.testing.simulation import simulate

pytestmark = pytest.mark.one_database
SEEDS = range(20)
DIGESTS = (
    "import django; django.setup()\n"
    "from workflow_engine.testing.simulation import simulate\n"
    "print(*(simulate(seed).digest for seed in range(20)))\n"
)


def test_a_seed_replays_identically_here_and_in_a_process_with_other_hashes() -> None:
    env = {
        **os.environ,
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": str(Path.cwd()),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    # No shell, and nothing but our own words.
    other = subprocess.Popen([sys.executable, "-c", DIGESTS], env=env, stdout=subprocess.PIPE, text=True)
    here = [simulate(seed).digest for seed in SEEDS]
    there, _ = other.communicate()

    assert other.returncode == 0
    assert there.split() == here
    assert len(set(here)) == len(SEEDS)
