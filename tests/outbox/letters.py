"""Dead letters for tests of the doors to them."""

from __future__ import annotations

from workflow_engine.models import DeadLetter, WorkflowRun


def dead_letter(
    run: WorkflowRun, *, subscriber: str = "mailer", sequence: int = 1, type: str = "run.created"
) -> DeadLetter:
    return DeadLetter.objects.create(
        run=run,
        sequence=sequence,
        type=type,
        subscriber=subscriber,
        tries=5,
        error="ConnectionError: refused",
        died_at=run.created_at,
    )
