"""What the doctor says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .codes import CODES, Severity

if TYPE_CHECKING:
    from .reading import Record


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. A warning is what may also be so in a healthy system."""

    code: str
    severity: Severity
    run_id: uuid.UUID | None
    # Empty: the run as a whole.
    stage: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.code}: {self.where}: {self.text}"

    @property
    def where(self) -> str:
        """Return ``run 0190… stage parse``; empty where no run is meant."""
        run = "" if self.run_id is None else f"run {self.run_id}"
        return f"{run} stage {self.stage}" if self.stage else run

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "run_id": None if self.run_id is None else str(self.run_id),
            "stage": self.stage or None,
            "text": self.text,
            "fix": self.fix,
        }


def finding(code: str, run_id: uuid.UUID | None, stage: str = "", *, text: str, fix: str = "") -> Finding:
    """Return a finding; severity and, if none is given, what would help are those of its code."""
    known = CODES[code]
    return Finding(code, known.severity, run_id, stage, text, fix or known.fix)


def violation(code: str, record: Record, stage: str = "", *, text: str) -> Finding:
    return finding(code, record.run.pk, stage, text=text)


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found, and where there may be more: codes of which only the first findings are listed."""

    findings: tuple[Finding, ...]
    cut: tuple[str, ...]
    # Runs that were looked at one by one: those that are open, and of the others the newest; more there may be.
    runs_seen: int
    all_runs_seen: bool

    @property
    def violations(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.severity == "violation")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.severity == "warning")
