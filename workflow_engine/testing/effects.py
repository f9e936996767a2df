"""What a run has done to the world, as far as a test can count it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from django.apps import apps
from django.core import mail

Effects = Callable[[], Mapping[str, float]]


def count_effects(using: str, effects: Effects | None) -> dict[str, float]:
    """Return how much was done so far: mails, rows of the project's models by label, and what ``effects`` counts."""
    found: dict[str, float] = {"mails": len(getattr(mail, "outbox", ()))}
    for model in apps.get_models():
        meta = model._meta
        if meta.app_label != "workflow_engine" and meta.managed and not meta.proxy:
            found[meta.label] = model._default_manager.using(using).count()
    return found | dict(effects() if effects is not None else {})


@contextmanager
def undo_mails() -> Iterator[None]:
    """Forget the mails that are sent inside."""
    sent = len(getattr(mail, "outbox", ()))
    try:
        yield
    finally:
        if hasattr(mail, "outbox"):
            del mail.outbox[sent:]
