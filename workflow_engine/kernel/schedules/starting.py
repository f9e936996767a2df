"""Starting the runs of schedules: each time that comes is a row, and its run is made in the same transaction."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import F

from workflow_engine.definitions.annotations import Trigger
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, ExtraMissing, WorkflowEngineError
from workflow_engine.kernel import points
from workflow_engine.kernel.advertised import read_advertised
from workflow_engine.kernel.commands.create_run import CreateRun, Prepared, insert, prepare
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.statuses import FireState

from .turns import Turn, decide

logger = logging.getLogger(__name__)
# A schedule that is wrong is looked at again after this, ever more seldom, up to the last.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=5)
LONGEST_ERROR = 2_000
# Who has made the runs of schedules, where nobody has asked for them.
SOURCE = "schedule"


class _Moved(Exception):
    """Somebody else has had this turn, or the schedule was changed: nothing of this is kept."""


def start_due(ports: Ports, most: int) -> tuple[int, int, int]:
    """Do what is due of schedules; return how many runs were started, how many schedules are wrong, how many were
    looked at. Raises ``ExtraMissing``: then some are due, and this process cannot tell their times."""
    due = _due_here(ports, most)
    started, wrong = 0, 0
    for schedule in due:
        try:
            started += _take_turn(ports, schedule)
        except _Moved:
            continue
        except (DatabaseUnavailable, ExtraMissing):
            raise
        except DatabaseConflict:
            # It lost against others again and again; it is due as before.
            continue
        # The expression, the workflow or the input is wrong by now, or code of the user's that looks at the input: it
        # may ask a database too. If it is our own that is away, noting that says so.
        except Exception as error:
            _note_error(ports, schedule, error)
            wrong += 1
    return started, wrong, len(due)


def _due_here(ports: Ports, most: int) -> list[Schedule]:
    """Return schedules that are due, without those whose workflow only other living workers have."""
    rows = Schedule.objects.using(ports.using).due(ports.clock.db_now())
    due, known = list(rows[:most]), frozenset(ports.known_workflows())
    if all(schedule.workflow in known for schedule in due):
        return due
    advertised = read_advertised(ports)
    if len(due) == most:
        # They are not to keep those that are behind them waiting.
        elsewhere = [workflow for workflow in advertised.stages if workflow not in known]
        return list(rows.exclude(workflow__in=elsewhere)[:most])
    return [one for one in due if one.workflow in known or not advertised.is_elsewhere(one.workflow)]


def _take_turn(ports: Ports, schedule: Schedule) -> int:
    now = ports.read_time()
    turn = decide(ports, schedule, now)
    # Validating is the user's code, and a large input goes to the blob store: before any transaction.
    runs = [prepare(new_run(schedule), ports) for _ in turn.starts]
    points.hit(points.SCHEDULE_PREPARED)
    transact(ports, uuid.uuid4(), lambda work: _start(work, schedule, turn, runs, now))
    points.hit(points.SCHEDULE_AFTER)
    return len(runs)


def new_run(schedule: Schedule, *, actor: str = "") -> CreateRun:
    """Return what makes a run of a schedule; ``stamp`` says for which time."""
    return CreateRun(
        workflow_id=schedule.workflow,
        input=schedule.input,
        annotations={Trigger.SOURCE.name: SOURCE},
        actor=actor or f"schedule:{schedule.name}",
    )


def stamp(command: CreateRun, schedule: Schedule, due_at: datetime) -> CreateRun:
    """Let the run say which schedule has started it, and for which time: ``ctx.metadata["schedule"]``."""
    facts = {"id": str(schedule.pk), "name": schedule.name, "due_at": due_at.isoformat()}
    return replace(command, metadata={"schedule": facts})


def _start(
    work: UnitOfWork,
    schedule: Schedule,
    turn: Turn,
    runs: Sequence[tuple[CreateRun, Prepared]],
    now: datetime,
) -> None:
    using = work.ports.using
    schedules, fires = Schedule.objects.using(using), ScheduleFire.objects.using(using)
    if not schedules.hold(schedule):
        # An earlier try of this very transaction may have been committed although its answer was lost.
        if work.repeated and any(fires.filter(run=prepared.run_id).exists() for _, prepared in runs):
            return
        raise _Moved
    fires.settle(turn.settled)
    for (due_at, waiting), (command, prepared) in zip(turn.starts, runs, strict=True):
        insert(work, stamp(command, schedule, due_at), prepared, now)
        if waiting is None:
            add_started(work, schedule, due_at, prepared.run_id, now)
        elif not fires.begin(waiting, prepared.run_id, now):
            raise _Moved
    fires.wait(schedule.pk, turn.waits)
    columns = {"next_due_at": turn.next_due_at, "look_at": turn.look_at, "error": "", "failures": 0}
    if turn.starts:
        columns["last_fired_at"] = now
    if turn.skipped is not None:
        columns["last_skipped_at"], columns["last_skipped_reason"] = turn.skipped
    points.hit(points.SCHEDULE_IN_TX)
    if not schedules.change(schedule, **columns):
        raise _Moved


def add_started(
    work: UnitOfWork, schedule: Schedule, due_at: datetime, run_id: uuid.UUID, now: datetime, *, by_hand: bool = False
) -> None:
    """Write the row of a time for which a run is made; the table has one for each."""
    row = ScheduleFire(
        schedule_id=schedule.pk, due_at=due_at, state=FireState.STARTED, run_id=run_id, fired_at=now, by_hand=by_hand
    )
    ScheduleFire.objects.using(work.ports.using).bulk_create([row])


def _note_error(ports: Ports, schedule: Schedule, error: Exception) -> None:
    """Say at the schedule what is wrong, and look again later; what has come by then is up to its catch-up."""
    text = str(error) if isinstance(error, WorkflowEngineError) else f"{type(error).__name__}: {error}"
    text = str(scrub(text)[:LONGEST_ERROR])
    wait = min(FIRST_WAIT * 2 ** min(schedule.failures, 10), LONGEST_WAIT)
    rows = Schedule.objects.using(ports.using)

    def note(work: UnitOfWork) -> bool:
        # Not waiting: whoever holds it in an open transaction would hold up everything else that is due.
        columns = {"error": text, "failures": F("failures") + 1, "look_at": ports.read_time() + wait}
        return rows.hold(schedule) and rows.change(schedule, **columns)

    if transact(ports, uuid.uuid4(), note):
        # Once when it begins, not at every try.
        level = logging.DEBUG if schedule.failures else logging.WARNING
        logger.log(level, "schedule cannot start a run schedule=%s error=%s", schedule.name, text)
