"""What the machine allows: durable commits, and the engine's transactions written by hand."""

from __future__ import annotations

import subprocess
import sys
import time

import psycopg

from tests.benchmarks.environment import ROOT
from tests.benchmarks.figures import Figures
from tests.benchmarks.floor import TABLES
from tests.benchmarks.servers import Servers

CLIENTS = {"commits": (1, 8), "floor5": (1, 2), "floor7": (1, 2)}
START_SECONDS = 0.8


def measure(servers: Servers, figures: Figures, seconds: float) -> None:
    """Add transactions per second for each kind and number of client processes."""
    for kind, numbers in CLIENTS.items():
        for number in numbers:
            url = servers.fresh("limits")
            figures.add(f"limits/{kind}/{number}/per_s", rate(url, kind, number, seconds))


def make_tables(servers: Servers) -> None:
    with psycopg.connect(servers.make_template("limits")) as connection:
        connection.execute(TABLES)


def rate(url: str, kind: str, clients: int, seconds: float) -> float:
    begin = time.time() + START_SECONDS + clients * 0.1
    command = [sys.executable, "-m", "tests.benchmarks.floor", url, kind, str(begin), str(seconds)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    done = [int(process.communicate()[0]) for process in processes]
    return sum(done) / seconds
