"""``manage.py wfe_worker``: a process that takes due work until it is told to stop."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import transport_name
from workflow_engine.hosts.worker import Worker, WorkerOptions
from workflow_engine.management.command import COMPLETED, UNAVAILABLE, USAGE, EngineCommand
from workflow_engine.management.interrupts import on_interrupt
from workflow_engine.management.printing import facts
from workflow_engine.management.reading import names, seconds, whole_number


class Command(EngineCommand):
    help = (
        "Run due stages in threads until SIGTERM or SIGINT; then finish what runs and exit. A second signal hurries: "
        "what still runs is given back to other workers."
    )
    exit_codes = {
        COMPLETED: "stopped in good order (after a signal, --burst or --max-jobs)",
        USAGE: "the arguments are wrong",
        UNAVAILABLE: "the database refused to work; one that is away is waited for instead",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--queues", type=names, metavar="A,B", help="Take work of these queues only.")
        parser.add_argument(
            "--threads", type=whole_number(1), metavar="N", help="Stages at the same time (setting WORKER_THREADS)."
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

    def handle(self, *, as_json: bool, **options: Any) -> None:
        worker = Worker(get_kernel(), _options(options))

        def stop() -> None:
            if not as_json and not worker.is_stopping:
                self.say(f"Stopping: what runs may finish within {worker.grace:g} s; a second signal hurries.")
            worker.stop()

        with on_interrupt(stop, leave=False):
            if as_json:
                self.say_json({"event": "started", **_facts(worker)})
            else:
                self._greet(worker)
            finished = worker.run()
        if as_json:
            self.say_json({"event": "stopped", "worker_id": worker.id, "finished": finished})
        else:
            self.say(f"Stopped after {finished} attempt{'' if finished == 1 else 's'}.")

    def _greet(self, worker: Worker) -> None:
        known = _facts(worker)
        self.say(f"Worker {known['name']}")
        pairs = {
            "slots": str(known["slots"]),
            "queues": ", ".join(known["queues"]) if known["queues"] else "all",
            "transport": known["transport"],
            "workflows": ", ".join(known["workflows"])
            or "none: register() some in the workflows.py of an installed app; until then there is nothing to run",
        }
        for line in facts(pairs):
            self.say(f"  {line}")


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
        "queues": worker.queues,
        "transport": transport_name(),
        "workflows": worker.facts.workflows,
    }
