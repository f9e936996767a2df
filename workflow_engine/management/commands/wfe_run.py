"""``manage.py wfe_run``: create a run, drive it here or let workers do it, and say how it ended."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.errors import InvalidTransition, WaitTimeout
from workflow_engine.hosts.wait import RunSnapshot, wait_for
from workflow_engine.management.command import (
    CANCELLED,
    COMPLETED,
    FAILED,
    INTERRUPTED,
    TIMEOUT,
    UNAVAILABLE,
    USAGE,
    EngineCommand,
    Refusal,
    whoami,
)
from workflow_engine.management.ending import ending_as_json, ending_lines
from workflow_engine.management.interrupts import Interrupted, on_interrupt
from workflow_engine.management.live import View, view_of
from workflow_engine.management.looking import read_again
from workflow_engine.management.reading import read_json, seconds, whole_number
from workflow_engine.models import WorkerHeartbeat, WorkflowRun
from workflow_engine.models.runs import DEFAULT_PRIORITY
from workflow_engine.running import create_run
from workflow_engine.statuses import RunStatus

_EXIT_CODES = {RunStatus.COMPLETED: COMPLETED, RunStatus.FAILED: FAILED, RunStatus.CANCELLED: CANCELLED}


class Command(EngineCommand):
    help = "Create a run of a workflow, drive it in this process, and print how it ended."
    exit_codes = {
        COMPLETED: "the run is COMPLETED (or created, with --no-host and without --watch)",
        FAILED: "the run is FAILED",
        USAGE: "nothing was created: arguments, workflow, input or config are wrong",
        CANCELLED: "the run is CANCELLED",
        TIMEOUT: "the run had not ended after --timeout; it can go on",
        UNAVAILABLE: "the database refused to work; try again later",
        INTERRUPTED: "Ctrl-C: the run can go on (143 after SIGTERM)",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workflow", metavar="WORKFLOW", help="Id of the workflow; wfe_graph lists them.")
        parser.add_argument("--input", metavar="JSON", help="JSON, @file with JSON, or - for the standard input.")
        parser.add_argument("--config", metavar="JSON", help='{"stage-id": {"field": value}}, or @file with it.')
        parser.add_argument("--watch", action="store_true", help="Show every change while the run goes on.")
        parser.add_argument("--no-host", action="store_true", help="Let workers run it; without --watch do not wait.")
        parser.add_argument("--timeout", type=seconds, metavar="S", help="Wait at most so many seconds.")
        parser.add_argument(
            "--priority", type=whole_number(0, 10), default=DEFAULT_PRIORITY, metavar="N", help="0 to 10, higher first."
        )
        parser.add_argument("--idempotency-key", metavar="K", help="The same key again gives the same run.")

    def handle(self, *, workflow: str, watch: bool, no_host: bool, as_json: bool, **options: Any) -> None:
        _refuse_transaction()
        run = self._create(workflow, options)
        if no_host and not watch:
            self._say_created(run, as_json=as_json)
            return
        view = view_of(run, self, watch=watch, as_json=as_json, no_color=options["no_color"])
        self._wait(run, view, host=not no_host, timeout=options["timeout"], as_json=as_json)
        run = read_again(run)
        if as_json:
            self.say_json({"event": "ended", **ending_as_json(run)})
        else:
            for line in ending_lines(run):
                self.say(line)
        if code := _EXIT_CODES[RunStatus(run.status)]:
            raise CommandError(f"Run {run.pk} is {run.status}.", returncode=code)

    def _create(self, workflow: str, options: dict[str, Any]) -> WorkflowRun:
        given, config = options["input"], options["config"]
        if given == config == "-":
            message = "--input and --config cannot both be read from the standard input. Use @file for one of them."
            raise Refusal(message, returncode=USAGE, code="USAGE")
        return create_run(
            workflow,
            None if given is None else read_json(given, "--input"),
            config=None if config is None else read_json(config, "--config"),
            priority=options["priority"],
            idempotency_key=options["idempotency_key"],
            actor=whoami(),
        )

    def _say_created(self, run: WorkflowRun, *, as_json: bool) -> None:
        if as_json:
            data = {"event": "created", "run_id": run.pk, "workflow_id": run.workflow, "status": run.status}
            self.say_json({**data, "created": run.was_created})
        else:
            self.say(str(run.pk))

    def _wait(self, run: WorkflowRun, view: View, *, host: bool, timeout: float | None, as_json: bool) -> None:
        grace = get_setting("GRACE_SECONDS")
        stopping = f"Stopping: what runs may finish within {grace:g} s. Ctrl-C again: leave now." if host else ""

        def on_change(seen: RunSnapshot) -> None:
            view.change(seen.status)

        try:
            with on_interrupt(lambda: view.note(stopping) if stopping else None, leave=True):
                if not as_json:
                    self.say(f"Run {run.pk}" + ("" if run.was_created else " (created before, with the same key)"))
                with view:
                    if not host and not _workers_live():
                        view.note("No worker is alive. Start one: manage.py wfe_worker")
                    wait_for(run.pk, timeout=timeout, on_change=on_change, host=host)
        except WaitTimeout as error:
            raise Refusal(
                f"Run {run.pk} has not ended within {timeout:g} s. {_how_to_go_on(run, host=host)}",
                returncode=TIMEOUT,
                code=error.code,
            ) from error
        except KeyboardInterrupt as error:
            # Raised anywhere, perhaps in the middle of a statement: then its connection is of no use any more.
            if not (connection := connections[run._state.db or DEFAULT_DB_ALIAS]).in_atomic_block:
                connection.close()
            signum = error.signum if isinstance(error, Interrupted) else INTERRUPTED - 128
            text = f"Interrupted. {_how_to_go_on(run, host=host)}"
            raise Refusal(text, returncode=128 + signum, code="INTERRUPTED") from error


def _how_to_go_on(run: WorkflowRun, *, host: bool) -> str:
    if host:
        return f"Run {run.pk} goes on with: manage.py wfe_worker"
    return f"Run {run.pk} goes on without being watched; see it with: manage.py wfe_status {run.pk}"


def _workers_live() -> bool:
    ports = get_kernel().ports
    return WorkerHeartbeat.objects.using(ports.using).alive(ports.clock.db_now()).exists()


def _refuse_transaction() -> None:
    if connections[get_kernel().ports.using].in_atomic_block:
        raise InvalidTransition(
            "wfe_run was called inside a transaction, so nobody can see its run before that commits. "
            "Call it outside (a test: with transaction=True, or TransactionTestCase)."
        )
