"""What becomes of each value at each entry: one table, which holds for every database."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.db import models, transaction

from workflow_engine.errors import FieldError, WorkflowEngineError

from .comparing import as_json, same
from .corpus import CANARY

FILE = Path(__file__).parent / "verdicts.json"
KEPT, CHANGED, REFUSED = "kept", "changed", "refused"


def judge(write: Callable[[Any], Any], make: Callable[[], Any], model: type[models.Model], *, is_json: bool) -> str:
    """Return whether a value is kept as it is, changed in a way that is told, or refused without a trace.

    Raises what is none of these: an error that is not ours is a bug.
    """
    before = model._default_manager.count()
    try:
        with transaction.atomic():
            found = write(make())
    except WorkflowEngineError as error:
        assert model._default_manager.count() == before
        _check_error(error, is_json=is_json)
        return REFUSED
    return KEPT if same(as_json(make()), found) else CHANGED


def _check_error(error: WorkflowEngineError, *, is_json: bool) -> None:
    """An error says what was wrong, and of what; contents of JSON are nobody's business."""
    assert str(error).strip()
    if is_json:
        assert CANARY not in str(error), f"{error} repeats what is secret"
    for one in getattr(error, "errors", ()):
        assert isinstance(one, FieldError) and one.message


def table_of(verdicts: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of what was not kept, by verdict."""
    names = sorted(verdicts)
    return {verdict: [name for name in names if verdicts[name] == verdict] for verdict in (CHANGED, REFUSED)}


def check(entry: str, verdicts: dict[str, str]) -> None:
    """Compare with the table that is committed; ``WFE_WRITE_VERDICTS=1`` writes it anew."""
    known: dict[str, dict[str, list[str]]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = table_of(verdicts)
    if os.environ.get("WFE_WRITE_VERDICTS"):
        known[entry] = found
        FILE.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n")
    assert known.get(entry) == found, f"{entry}: {found}"


def odd(errors: Iterable[tuple[str, BaseException]]) -> str:
    """Return what went wrong otherwise, one value a line."""
    return "\n".join(f"{name}: {type(error).__name__}: {str(error)[:200]}" for name, error in errors)
