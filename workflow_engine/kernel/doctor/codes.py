"""Every code of the doctor: what it means, where it may come from, and what to do. Codes stay what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["violation", "warning"]
# No command makes this: it takes a bug, or rows changed by hand.
BY_HAND = "No command leaves this behind. Were rows changed by hand? Else report it, with the run's events."
CHANGED = "Rows that were changed or deleted by hand, a restore of only some tables, or a bug in the engine."
CLOSE_IT = "Cancel the run if it is open, or rerun it from a stage: new rows take the place of these."
RESTORE = "Restore the row from a backup, or cancel the run."
NO_TICK = "Does any worker tick? All may run with --no-orchestrator, or be down."
LOOKED_AT = "Within a minute a worker looks at it and goes on from the rows; so does wfe_doctor --fix."
LATE_TICKS = "No worker ticks, or too few for what is due; or what it belongs to is paused."


@dataclass(frozen=True, slots=True)
class Code:
    severity: Severity
    means: str
    causes: str = CHANGED
    fix: str = BY_HAND

    def as_json(self) -> dict[str, str]:
        return {"severity": self.severity, "means": self.means, "causes": self.causes, "fix": self.fix}


def _wrong(means: str, causes: str = CHANGED, fix: str = BY_HAND) -> Code:
    return Code("violation", means, causes, fix)


def _odd(means: str, causes: str = LATE_TICKS, fix: str = NO_TICK) -> Code:
    return Code("warning", means, causes, fix)


# In the order in which findings are shown.
CODES: dict[str, Code] = {
    "status.unknown": _wrong("A run or a stage has a status that does not exist."),
    "status.impossible": _wrong(
        "A status without what belongs to it: RUNNING without worker, token or start, a stage ahead of a PENDING run."
    ),
    "time.missing": _wrong("Something has ended without a time of its end, or is open with one."),
    "time.disordered": _wrong(
        "A run started before it was made, or ended before it started.",
        "The database's clock was set back by more than the run took; or rows were changed by hand.",
        "Let NTP slew the clock of the database's server instead of stepping it. The run itself is right.",
    ),
    "run.stuck": _wrong(
        "A run is RUNNING, and no stage of it is pending, running or suspended: nothing will move it.",
        CHANGED,
        "The next tick advances it, or fails it with STUCK; so does wfe_doctor --fix.",
    ),
    "run.open": _wrong(
        "A run has not ended although everything should have (asked of tests only).",
        "Nobody works any more, or the run waits for an answer, a time or a child run.",
        "Drain the host longer, answer what waits, or cancel the run.",
    ),
    "run.incomplete": _wrong(
        "A run is COMPLETED, and a stage of its plan is neither COMPLETED nor SKIPPED.", CHANGED, CLOSE_IT
    ),
    "plan.broken": _wrong("A run has no plan, or one without groups of stages.", CHANGED, RESTORE),
    "place.missing": _wrong(
        "A run is held back by a limit, and waits in no line: nobody will let it go.", CHANGED, "Cancel it; start anew."
    ),
    "place.kept": _wrong(
        "A run has ended, and still waits for a place of a limit (asked of tests only).",
        "Its notice is not delivered.",
        "Deliver the notices: a tick does.",
    ),
    "stage.open_in_ended_run": _wrong("A stage is open, and its run has ended: nothing will start or end it."),
    "stage.held": _wrong("A stage that neither runs nor is being checked names a worker that holds it."),
    "stage.output": _wrong("A COMPLETED stage has no output, or another one has some.", CHANGED, CLOSE_IT),
    "stage.winner": _wrong(
        "A COMPLETED stage has no attempt that won, several, or one with another token; or another stage has one."
    ),
    "stage.completions": _wrong("The events that say that a stage is completed are not one, or it is not completed."),
    "stage.too_early": _wrong("A stage started before the whole group before it had ended."),
    "generation.ahead": _wrong("A stage is of a generation that its run has not reached."),
    "generation.open_but_old": _wrong("A stage is open although a rerun has taken its place."),
    "generation.two_count": _wrong("Two rows of one stage count, or none of the newest generation."),
    "wait.without_time": _wrong(
        "A stage waits, and no time is set at which somebody looks after it: it would wait for ever.",
        CHANGED,
        "Cancel the run, or rerun it from that stage.",
    ),
    "budget.exceeded": _wrong(
        "A stage has crashed more often than it may.",
        "MAX_CRASHES was lowered since; or rows were changed by hand; or a bug.",
        "After a lower MAX_CRASHES: nothing, the stage fails at its next crash.",
    ),
    "token.twice": _wrong("A fencing token was handed out twice."),
    "token.ahead": _wrong("A fencing token was handed out that its stage has not reached."),
    "attempts.overlap": _wrong("Two attempts of a stage were under way at the same time, and both count."),
    "events.gap": _wrong("The numbers of a run's events have gaps, or are not as many as the run counts."),
    "events.disordered": _wrong("Events of generations are mixed, or a generation does not begin with its rerun."),
    "events.no_start": _wrong("An event says what came of an attempt, and none before it that it started."),
    "events.no_end": _wrong("A run has ended and no event says so, or the other way round."),
    "events.wrong_end": _wrong("The event of a run's end says something else than its status."),
    "events.two_ends": _wrong("A generation of a run has more than one event of its end."),
    "events.after_end": _wrong("Something other than an annotation comes after the end of a generation."),
    "delivery.ahead": _wrong("A subscriber is to hear of events that the run does not have."),
    "totals.wrong": _wrong(
        "A run's cost or tokens are not the sums of its stages'.", CHANGED, "A rerun from any stage adds them up anew."
    ),
    "map.miscounted": _wrong("The counts of a map are not those of its rows.", CHANGED, f"{BY_HAND} {LOOKED_AT}"),
    "map.item_left": _wrong("An item of a map is open, and its stage does not wait for its items."),
    "map.too_many": _wrong("More items of a map are under way than may be at the same time."),
    "map.unheard": _wrong("A stage waits for items that have all ended.", CHANGED, LOOKED_AT),
    "child.unknown": _wrong("A run was started by a stage that does not know it, or knows it twice."),
    "child.not_told": _wrong("A run has ended, and the stage that waits for it will not be told.", CHANGED, LOOKED_AT),
    "key.wrong_run": _wrong("An idempotency key answers with another run than the one that was created under it."),
    "row.orphan": _wrong(
        "A row belongs to a run or a stage that is not there.",
        "Runs that were deleted by hand, or a restore of only some tables.",
        "Delete what is left by hand; delete runs with wfe_prune.",
    ),
    "row.unreadable": _wrong("A row holds JSON that Python cannot read.", CHANGED, RESTORE),
    "blob.shared": _wrong("Two rows have made the same blob, or one lies in the folder of another run."),
    "blob.missing": _wrong(
        "A row refers to a blob that is not in the store (asked with --blobs).",
        "Files that were deleted by hand or by a rule of the store, or a restore of the database alone.",
        "Restore the file. Else rerun from the stage that has made it; of an input, start a new run.",
    ),
    "blob.corrupt": _wrong(
        "A blob has another size or SHA-256 than its row says (asked with --blobs).",
        "A file that was changed, or a disk that forgets.",
        "Restore the file. Else rerun from the stage that has made it.",
    ),
    "bulk.left": _wrong("A bulk operation has ended, and some of its runs are still open in it."),
    "schedule.unwatched": _wrong(
        "A schedule has a next time, and nobody will look at it then.", CHANGED, "Disable it and enable it again."
    ),
    "fire.without_run": _wrong("A time of a schedule counts as started, and names no run."),
    "notice.left": _wrong(
        "A run has not been told what another one has to tell it (asked of tests only).",
        "Nobody has ticked since.",
        "Deliver the notices: a tick does.",
    ),
    "delivery.left": _wrong(
        "A subscriber has not heard of everything yet (asked of tests only).",
        "Nobody has flushed the outbox since.",
        "Flush the outbox: a tick does.",
    ),
    "bulk.open": _wrong(
        "A bulk operation is not over (asked of tests only).", "Nobody has ticked since.", "Tick until it is."
    ),
    "lease.over": _odd(
        "A stage runs in a worker whose lease is over.",
        "The worker was killed, or cannot reach the database.",
        f"The next tick takes it back; so does wfe_doctor --fix. {NO_TICK}",
    ),
    "work.not_taken": _odd(
        "Stages have been due for over ten minutes, and nobody took them.",
        "No worker takes that queue, all are busy, or the queue or workflow is paused.",
        "Start more workers for the queue (wfe_worker --queues), or resume what is paused.",
    ),
    "run.not_claimed": _odd(
        "Runs have been due for over ten minutes, and nobody has begun with them.",
        "No worker ticks, none knows the workflow, all are busy, or it is paused.",
        "Start workers that know the workflow, or resume what is paused.",
    ),
    "wait.overslept": _odd(
        "A stage should have been woken or checked over ten minutes ago.",
        LATE_TICKS,
        f"{NO_TICK} Or its workflow or queue is paused.",
    ),
    "run.over_deadline": _odd("The timeout of a run was over ten minutes ago, and it is still RUNNING."),
    "wait.forgotten": _odd(
        "A stage has waited for an answer for 30 days, and would for ever.",
        "Nobody was told, or nobody remembers.",
        "Answer it or cancel the run; give the wait a max_wait for the next time.",
    ),
    "definition.unknown": _odd(
        "No living worker knows the workflow or the stage.",
        "A deploy that is under way, or one that has removed it.",
        "Start a worker that has it before the grace is over, or cancel the run.",
    ),
    "plan.drift": _odd(
        "The code lacks what live runs still need.",
        "A deploy that has removed or renamed stages, waits or checks.",
        "Each finding says what to keep, or what to cancel.",
    ),
    "child.unheard": _odd(
        "A stage has waited for over ten minutes for a child run that has ended, or is gone.",
        LATE_TICKS,
        f"{LOOKED_AT} {NO_TICK}",
    ),
    "notice.undelivered": _odd("What one run has to tell another was due over ten minutes ago."),
    "event.not_handed_on": _odd("An event that somebody subscribes to was handed on to nobody for over ten minutes."),
    "delivery.overdue": _odd(
        "A subscriber should have heard of events over ten minutes ago.",
        "No worker knows the subscriber, or none ticks.",
        "Does any worker still know the subscriber? wfe_outbox shows those that are known.",
    ),
    "limit.exceeded": _odd(
        "More runs are under way than their limit allows.",
        "The limit was lowered.",
        "Nothing, if it was: it holds again once enough of them have ended.",
    ),
    "limit.not_given": _odd("Runs wait for a place of a limit although there is one."),
    "scheduled.overdue": _odd("A scheduled command was due over ten minutes ago, and is not carried out."),
    "schedule.overdue": _odd(
        "A schedule was due over ten minutes ago, and nobody has looked at it.",
        LATE_TICKS,
        f"{NO_TICK} Or none has cronsim.",
    ),
    "schedule.wrong": _odd(
        "A schedule cannot start its run.",
        "Its workflow is not registered, or its input or time zone is wrong.",
        "Mend the schedule, or disable it. What was missed by then is up to its catch-up.",
    ),
}
