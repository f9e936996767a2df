"""``manage.py wfe_worker``: takes due work until it is told to stop, in this process or in several."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting, transport_name
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.supervised import Stopping, memory_watch, obey, resident_bytes, take_ids, take_line
from workflow_engine.hosts.supervisor import ChildEvent, ChildExited, ChildStarted, Supervisor
from workflow_engine.hosts.worker import Worker
from workflow_engine.management.command import COMPLETED, FAILED, UNAVAILABLE, USAGE, EngineCommand, Refusal
from workflow_engine.management.interrupts import on_interrupt
from workflow_engine.management.printing import facts, size
from workflow_engine.management.reading import names, seconds, whole_number

MIB = 1024 * 1024
# Of Python's interpreter: one thread that is busy must not keep the many waiting that have little to do each.
TURN_SECONDS = 0.0005


class Command(EngineCommand):
    help = (
        "Run due stages in threads until SIGTERM or SIGINT; then finish what runs and exit. A second signal hurries: "
        "what still runs is given back to other workers."
    )
    exit_codes = {
        COMPLETED: "stopped in good order (after a signal, --burst, --max-jobs or --max-rss-mb, or because too many "
        "threads hang)",
        FAILED: "with --processes: a worker process did not stop in good order; or that one's code, the highest",
        USAGE: "the arguments are wrong",
        UNAVAILABLE: "the database refused to work; one that is away is waited for instead",
    }
    _arguments: list[str] | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        self._arguments = argv[2:]
        super().run_from_argv(argv)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--queues", type=names, metavar="A,B", help="Take work of these queues only.")
        parser.add_argument(
            "--threads", type=whole_number(1), metavar="N", help="Stages at the same time (setting WORKER_THREADS)."
        )
        parser.add_argument(
            "--processes", type=whole_number(1), metavar="N", help="Start N such workers, and again those that end."
        )
        parser.add_argument("--burst", action="store_true", help="Exit as soon as nothing is due.")
        parser.add_argument(
            "--no-orchestrator", action="store_true", help="Run stages only; other workers look after lost ones."
        )
        parser.add_argument("--name", default="", help="Shown beside its work (default: host and process id).")
        parser.add_argument(
            "--grace", type=seconds, metavar="S", help="Seconds that stages get to finish (setting GRACE_SECONDS)."
        )
        parser.add_argument("--max-jobs", type=whole_number(1), metavar="N", help="Exit after N attempts.")
        parser.add_argument(
            "--max-rss-mb", type=whole_number(1), metavar="M", help="Drain and exit when more than M MiB are in use."
        )

    def handle(self, *, as_json: bool, processes: int | None, **options: Any) -> None:
        line = take_line()
        if processes is None:
            self._work(line, as_json, options)
        else:
            self._supervise(processes, as_json, options)

    def _work(self, line: int | None, as_json: bool, options: dict[str, Any]) -> None:
        limit = _memory_limit(options["max_rss_mb"])
        own, dead = take_ids() if line is not None else (None, ())
        worker = Worker(get_kernel(), replace(_options(options), id=own, dead=dead))
        stopping = Stopping(worker.stop)

        def stop() -> None:
            if not worker.is_stopping:
                self._say_stopping(worker.grace, as_json)
            stopping.signal()

        def shrink(held: int) -> None:
            if as_json:
                self.say_json({"event": "too_large", "worker_id": worker.id, "rss": held, "limit": limit})
            else:
                self.say(f"{worker.facts.name} holds {size(held)}, more than --max-rss-mb {options['max_rss_mb']}.")
            stopping.drain()

        with on_interrupt(stop, leave=False):
            if line is not None:
                obey(line, stopping)
            if as_json:
                self.say_json({"event": "started", **_facts(worker)})
            elif line is None:
                self._greet(f"Worker {worker.facts.name}", _facts(worker))
            with memory_watch(limit, shrink), short_turns():
                finished = worker.run()
        if as_json:
            self.say_json({"event": "stopped", "worker_id": worker.id, "finished": finished})
        else:
            who = "Stopped" if line is None else f"{worker.facts.name} stopped"
            self.say(f"{who} after {finished} attempt{'' if finished == 1 else 's'}.")

    def _supervise(self, processes: int, as_json: bool, options: dict[str, Any]) -> None:
        name = options["name"] or f"{socket.gethostname()}:{os.getpid()}"
        grace = get_setting("GRACE_SECONDS") if options["grace"] is None else options["grace"]
        supervisor = Supervisor(
            self._child_command(),
            processes=processes,
            name=name,
            burst=options["burst"],
            tell=self._tell_json if as_json else self._tell,
        )

        def stop() -> None:
            if not supervisor.is_stopping:
                self._say_stopping(grace, as_json)
            supervisor.stop()

        with on_interrupt(stop, leave=False):
            known = {"name": name, "processes": processes, **_project(options)}
            if as_json:
                self.say_json({"event": "supervisor_started", "pid": os.getpid(), **known})
            else:
                self._greet(f"Supervisor {name}", known)
            code = supervisor.run()
        if as_json:
            self.say_json({"event": "supervisor_stopped", "code": code})
        else:
            self.say("Stopped." if code == 0 else f"Stopped; the worst exit code was {code}.")
        if code:
            raise Refusal("not every worker process stopped in good order", returncode=code, code="WORKERS_FAILED")

    def _child_command(self) -> list[str]:
        """Return the command line of this very process, for a worker that supervises nobody."""
        ours, count = sys.orig_argv[1:], len(self._arguments or ())
        if self._arguments is None or ours[len(ours) - count :] != self._arguments:
            message = "--processes starts this command line again, so it can be given on a command line only."
            raise Refusal(message, returncode=USAGE, code="USAGE")
        return [sys.executable, *ours[: len(ours) - count], *without_processes(self._arguments)]

    def _say_stopping(self, grace: float, as_json: bool) -> None:
        if as_json:
            self.say_json({"event": "stopping", "grace": grace})
        else:
            self.say(f"Stopping: what runs may finish within {grace:g} s; a second signal hurries.")

    def _tell(self, event: ChildEvent) -> None:
        if isinstance(event, ChildStarted):
            self.say(f"{event.name} started{' again' if event.restarts else ''}, process {event.pid}.")
        elif event.code or event.again_in is not None:
            how = f"was killed by {event.signal}" if event.signal else f"exited with code {event.code}"
            self.say(f"{event.name} (process {event.pid}) {how} after {event.seconds:.1f} s.{_and_then(event)}")

    def _tell_json(self, event: ChildEvent) -> None:
        kind = "child_exited"
        if isinstance(event, ChildStarted):
            kind = "child_restarted" if event.restarts else "child_started"
        self.say_json({"event": kind, **dataclasses.asdict(event)})

    def _greet(self, headline: str, known: dict[str, Any]) -> None:
        self.say(headline)
        pairs = {
            "processes": str(known.get("processes", "")),
            "slots": str(known["slots"]),
            "queues": ", ".join(known["queues"]) if known["queues"] else "all",
            "transport": known["transport"],
            "workflows": ", ".join(known["workflows"])
            or "none: register() some in the workflows.py of an installed app; until then there is nothing to run",
        }
        for line in facts({name: content for name, content in pairs.items() if content}):
            self.say(f"  {line}")


def without_processes(arguments: list[str]) -> list[str]:
    """Return the arguments without ``--processes N``, also where it is cut short or written with ``=``."""
    kept, skips = [], False
    for argument in arguments:
        if skips:
            skips = False
        elif re.fullmatch(r"--pr(o(c(e(s(s(es?)?)?)?)?)?)?", argument):
            skips = True
        elif not re.match(r"--pr\w*=", argument):
            kept.append(argument)
    return kept


def _and_then(event: ChildExited) -> str:
    if event.again_in is None:
        return ""
    return f" It is started again in {event.again_in:g} s." if event.again_in else " It is started again."


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads of this process take shorter turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _memory_limit(mib: int | None) -> int | None:
    """Return the limit in bytes. Raises ``Refusal`` if the process is larger before it has done anything."""
    if mib is None:
        return None
    held = resident_bytes()
    if held > mib * MIB:
        message = f"--max-rss-mb {mib}: this process holds {size(held)} before its first stage. Allow it more."
        raise Refusal(message, returncode=USAGE, code="USAGE")
    return mib * MIB


def _options(options: dict[str, Any]) -> WorkerOptions:
    return WorkerOptions(
        name=options["name"],
        threads=options["threads"],
        queues=options["queues"],
        burst=options["burst"],
        orchestrate=not options["no_orchestrator"],
        grace=options["grace"],
        max_jobs=options["max_jobs"],
    )


def _facts(worker: Worker) -> dict[str, Any]:
    return {
        "worker_id": worker.id,
        "name": worker.facts.name,
        "slots": worker.slots,
        "queues": worker.facts.queues,
        "transport": transport_name(),
        "workflows": worker.facts.workflows,
    }


def _project(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "slots": options["threads"] or get_setting("WORKER_THREADS"),
        "queues": options["queues"],
        "transport": transport_name(),
        "workflows": get_kernel().ports.known_workflows(),
    }
