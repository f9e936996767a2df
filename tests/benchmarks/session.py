"""One benchmark: the cases that were asked for, and the figures they give."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import CaseFailed, Told, run_case
from tests.benchmarks.environment import CannotInstall, peers_python
from tests.benchmarks.figures import Figures
from tests.benchmarks.keeping import KEEPERS
from tests.benchmarks.options import Options
from tests.benchmarks.peers.spec import Spec
from tests.benchmarks.relay import Counts, Window, relays
from tests.benchmarks.servers import Servers
from tests.benchmarks.systems import SYSTEMS, Measured

SMALLEST, LARGEST = 60, 20_000
COUNTED = {"count", "create-count", "idle"}
NO_RQ = "this version has no RQ transport"


class Session:
    """``missing`` and ``failed`` say why a system or a case has no figures; the report shows both."""

    def __init__(self, servers: Servers, options: Options, scratch: Path, say: Callable[[str], None]) -> None:
        self.servers, self.options, self.scratch, self.say = servers, options, scratch, say
        self.figures = Figures()
        self.missing: dict[str, str] = {}
        self.failed: list[str] = []
        self._paces: dict[str, float] = {}
        self._pythons: dict[str, str] = {}

    def prepare(self) -> None:
        """Install the peers and make each system's tables once; what cannot be had goes to ``missing``."""
        for name in self.options.systems:
            try:
                self._prepare(SYSTEMS[name])
            except (CannotInstall, CaseFailed) as error:
                self.missing[name] = str(error)
                self.say(f"{name}: not measured: {error}")

    def _prepare(self, system: Measured) -> None:
        if system.name == "ours" and find_spec("workflow_engine.transports.rq") is None:
            raise CannotInstall(NO_RQ)
        python = self._pythons[system.name] = peers_python(self.say) if system.is_peer else sys.executable
        spec = partial(Spec, workload=system.workloads[0], modes=["prepare"], scratch=str(self.scratch))
        if system.database:
            url = self.servers.make_template(system.database)
            # Tables are made without Redis: a transport that needs it must not be in the way.
            variant = "database" if not system.is_peer else system.variant
            run_case(python, system.module, spec(variant=variant, postgres=url))
        elif system.variant == "sqlite":
            run_case(python, system.module, spec(variant="sqlite"))
            shutil.copy(self.scratch / "bench.sqlite3", self.scratch / "template.sqlite3")

    def has(self, name: str) -> bool:
        return name in self.options.systems and name not in self.missing

    @property
    def ours(self) -> str | None:
        """The variant that stands for us in comparisons: with RQ, or without where there is none."""
        return next((name for name in ("ours", "ours-db", "ours-sqlite") if self.has(name)), None)

    def measure(
        self, name: str, workload: str, modes: list[str], *, processes: int | None = None,
        url: str | None = None, key: str | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Run one case, on fresh tables unless ``url`` names a database; keep its figures, or why it failed."""
        system = SYSTEMS[name]
        processes = processes or system.processes
        key = key or f"{name}/{processes}/{workload}"
        self.say(f"{key}: {', '.join(modes)}")
        try:
            spec = self._spec(system, key, workload, modes, processes=processes, **more)
            told, counts = self._run(system, spec, self.fresh(system) if url is None else url)
        except CaseFailed as error:
            self.failed.append(f"{key}: {error}")
            self.say(f"FAILED {key}: {error}")
        else:
            self._keep(key, told, counts, workload)

    def _spec(self, system: Measured, key: str, workload: str, modes: list[str], **more: Any) -> Callable[..., Spec]:
        seconds, pace = self.options.seconds, self._pace(key, system, workload)
        return partial(
            Spec,
            **{
                "workload": workload,
                "modes": modes,
                "variant": system.variant,
                "threads": None if system.is_peer else self.options.threads,
                "alone": self.options.alone,
                "alone_seconds": 2 * seconds,
                "idle_seconds": self.options.idle_seconds,
                "runs": int(min(max(pace * seconds, SMALLEST), LARGEST)),
                "scratch": str(self.scratch),
                **more,
            },
        )

    def _run(self, system: Measured, make: Callable[..., Spec], postgres: str) -> tuple[Told, Counts]:
        python, redis = self._pythons[system.name], self.servers.redis.url
        spec = make(postgres=postgres, redis=redis)
        if not set(spec.modes) & COUNTED:
            return run_case(python, system.module, spec), Counts()
        with relays(postgres or self.servers.postgres.url, redis) as (first, second):
            window = Window(first, second)
            spec = make(postgres=first.url, redis=second.url)
            told = run_case(python, system.module, spec, on_mark=window.mark)
        return told, window.counts

    def _pace(self, key: str, system: Measured, workload: str) -> float:
        guess = system.pace / (2 if workload == "group10" else 1)
        return self._paces.get(key, guess)

    def fresh(self, system: Measured) -> str:
        """Empty everything that the last case left; return the URL of a copy of the system's tables."""
        self.servers.empty_redis()
        if system.variant == "sqlite":
            for old in self.scratch.glob("bench.sqlite3*"):
                old.unlink()
            shutil.copy(self.scratch / "template.sqlite3", self.scratch / "bench.sqlite3")
        url = self.servers.fresh(system.database) if system.database else ""
        self.servers.checkpoint()
        return url

    def _keep(self, key: str, told: Told, counts: Counts, workload: str) -> None:
        for said in told:
            if keeper := KEEPERS.get(said.get("mode", "")):
                keeper(self.figures, key, said, counts, workload)
            if said.get("mode") == "flood":
                self._paces[key] = said["runs"] / said["seconds"]
