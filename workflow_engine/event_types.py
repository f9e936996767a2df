"""The types of events, by name. Plain words, so that definitions can name them."""

# What can happen to a run; ``kernel.events`` has a class for each, with its payload.
EVENT_TYPES = (
    "run.created",
    "run.started",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.suspended",
    "run.rerun",
    "run.paused",
    "run.resumed",
    "stage.started",
    "stage.completed",
    "stage.suspended",
    "stage.answered",
    "stage.retrying",
    "stage.failed",
    "stage.skipped",
    "stage.cancelled",
    "annotation.created",
)
