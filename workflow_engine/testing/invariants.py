"""What must hold of every run, whatever happened to it: the rules of ``wfe_doctor``, for tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel import doctor
from workflow_engine.kernel.doctor import CODES, Code, Finding
from workflow_engine.models import WorkflowRun

__all__ = ["CODES", "Code", "Finding", "check_invariants", "find_violations"]
MOST_SHOWN = 20


def check_invariants(
    using: str = "default",
    *,
    quiet: bool = True,
    blobs: bool = False,
    pruned: bool = True,
    runs: Iterable[WorkflowRun | uuid.UUID] | None = None,
) -> None:
    """Raise AssertionError if anything in the database is as it must never be; see ``find_violations``."""
    found = find_violations(using, quiet=quiet, blobs=blobs, pruned=pruned, runs=runs)
    if found:
        lines = [str(one) for one in found[:MOST_SHOWN]]
        if len(found) > MOST_SHOWN:
            lines.append(f"and {len(found) - MOST_SHOWN} more")
        raise AssertionError("\n".join([f"{len(found)} invariants do not hold:", *lines]))


def find_violations(
    using: str = "default",
    *,
    quiet: bool = True,
    blobs: bool = False,
    pruned: bool = True,
    runs: Iterable[WorkflowRun | uuid.UUID] | None = None,
) -> list[Finding]:
    """Return what is wrong: each with ``code``, ``run_id``, ``stage`` and ``text``; ``CODES`` says what codes mean.

    It reads every run in about a dozen statements per 200 of them, and changes nothing.

    Args:
        quiet: everybody has done their work, and nothing is due any more: every run has ended, and every notice and
            event is delivered. False: runs may be under way, also while this reads.
        blobs: ask the blob store whether it has what rows refer to, with the same bytes.
        pruned: events of runs that have ended may have been deleted (``wfe_prune``); False: all must be there.
        runs: only these; then rows that belong to no run are not looked for.
    """
    ports = replace(get_kernel().ports, using=using)
    ids = None if runs is None else [run.pk if isinstance(run, WorkflowRun) else run for run in runs]
    return doctor.find_violations(ports, run_ids=ids, quiet=quiet, blobs=blobs, whole=not pruned)
