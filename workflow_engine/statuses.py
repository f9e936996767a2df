"""The statuses of runs and stage runs, and the changes that are allowed between them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunStatus(models.TextChoices):
    """Status of one execution of a workflow. *Paused* is a timestamp on the run, not a status."""

    PENDING = "PENDING", _("Pending")
    RUNNING = "RUNNING", _("Running")
    COMPLETED = "COMPLETED", _("Completed")
    FAILED = "FAILED", _("Failed")
    CANCELLED = "CANCELLED", _("Cancelled")


class StageStatus(models.TextChoices):
    """Status of one unit of work of a run."""

    PENDING = "PENDING", _("Pending")
    RUNNING = "RUNNING", _("Running")
    SUSPENDED = "SUSPENDED", _("Suspended")
    COMPLETED = "COMPLETED", _("Completed")
    FAILED = "FAILED", _("Failed")
    SKIPPED = "SKIPPED", _("Skipped")
    CANCELLED = "CANCELLED", _("Cancelled")


class WaitKind(models.TextChoices):
    """What a suspended stage waits for."""

    POLL = "poll", _("A completion check")
    ANSWER = "answer", _("An answer")
    TIMER = "timer", _("A time")
    ITEMS = "items", _("Its items")
    CHILD = "child", _("A child run")


class AttemptKind(models.TextChoices):
    """What was tried: the body of a stage, or the check whether what it had begun is complete."""

    BODY = "body", _("Body")
    CHECK = "check", _("Check")


class MemoKind(models.TextChoices):
    """What a stage remembers between its attempts."""

    ONCE = "once", _("Result of a sub-step")
    TIMER = "timer", _("Timer")
    ANSWER = "answer", _("Answer")
    DEFAULT = "default", _("Answer by default")
    CHILD = "child", _("Child run")


class NoticeKind(models.TextChoices):
    """What one run tells another."""

    ENDED = "child_ended", _("A child run has ended")
    CANCEL = "cancel", _("The stage that wanted it has ended: cancel")
    PLACE = "place", _("A place of a limit is wanted, or free")


class PlaceStatus(models.TextChoices):
    """Whether a run is counted by the limit of its workflow."""

    WAITING = "WAITING", _("Waiting")
    HELD = "HELD", _("Held")
    FREE = "FREE", _("Free")


class PauseScope(models.TextChoices):
    WORKFLOW = "workflow", _("Workflow")
    QUEUE = "queue", _("Queue")


class AttemptOutcome(models.TextChoices):
    """How one try of a stage's body ended."""

    COMPLETED = "completed", _("Completed")
    SUSPENDED = "suspended", _("Suspended")
    RETRYING = "retrying", _("Failed, will be retried")
    FAILED = "failed", _("Failed for good")
    LOST = "lost", _("Worker lost")
    RELEASED = "released", _("Released by a draining worker")
    CANCELLED = "cancelled", _("Cancelled")


class BulkKind(models.TextChoices):
    """What a bulk operation does with each of its runs."""

    CANCEL = "cancel", _("Cancel")
    PAUSE = "pause", _("Pause")
    RESUME = "resume", _("Resume")
    RERUN = "rerun", _("Rerun")


class BulkStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    RUNNING = "RUNNING", _("Running")
    COMPLETED = "COMPLETED", _("Completed")
    CANCELLED = "CANCELLED", _("Cancelled")


class TargetOutcome(models.TextChoices):
    """What became of one run of a bulk operation."""

    OPEN = "open", _("Not done yet")
    CHANGED = "changed", _("Changed")
    UNCHANGED = "unchanged", _("Nothing to change")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Left out: the operation was cancelled")


OPEN_BULK = (BulkStatus.PENDING, BulkStatus.RUNNING)
OPEN_RUN = (RunStatus.PENDING, RunStatus.RUNNING)
FINISHED_RUN = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
OPEN_STAGE = (StageStatus.PENDING, StageStatus.RUNNING, StageStatus.SUSPENDED)
DONE_STAGE = (StageStatus.COMPLETED, StageStatus.SKIPPED)
# Whatever its group still waits for, or fails with.
UNFINISHED_STAGE = (*OPEN_STAGE, StageStatus.FAILED, StageStatus.CANCELLED)
FINISHED_STAGE = (StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED, StageStatus.CANCELLED)

RUN_CHANGES: dict[str, frozenset[str]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset({RunStatus.RUNNING}),
    RunStatus.FAILED: frozenset({RunStatus.RUNNING}),
    RunStatus.CANCELLED: frozenset({RunStatus.RUNNING}),
}
STAGE_CHANGES: dict[str, frozenset[str]] = {
    StageStatus.PENDING: frozenset(
        {StageStatus.RUNNING, StageStatus.SKIPPED, StageStatus.CANCELLED, StageStatus.FAILED}
    ),
    StageStatus.RUNNING: frozenset(
        {
            StageStatus.COMPLETED,
            StageStatus.FAILED,
            StageStatus.SUSPENDED,
            StageStatus.CANCELLED,
            StageStatus.PENDING,
        }
    ),
    StageStatus.SUSPENDED: frozenset(
        {StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.PENDING, StageStatus.CANCELLED}
    ),
}


class ScheduledStatus(models.TextChoices):
    """What has become of a command that was put off."""

    PENDING = "PENDING", _("Pending")
    FIRED = "FIRED", _("Fired")
    CANCELLED = "CANCELLED", _("Cancelled")
    DEAD = "DEAD", _("Given up")


class Overlap(models.TextChoices):
    """What a schedule does while a run of it has not ended."""

    SKIP = "skip", _("Skip")
    QUEUE = "queue", _("Wait for its end")
    ALLOW = "allow", _("Start beside it")


class CatchUp(models.TextChoices):
    """What a schedule does about times at which nobody was there to start a run."""

    NONE = "none", _("None of them")
    ONE = "one", _("The latest")
    ALL = "all", _("All of them")


class FireState(models.TextChoices):
    """How far a time of a schedule has come."""

    WAITING = "waiting", _("Waits for its turn")
    STARTED = "started", _("Started")
    ENDED = "ended", _("Its run has ended")
