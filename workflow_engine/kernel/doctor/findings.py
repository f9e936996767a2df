"""What the doctor says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["violation", "warning"]
# No command makes this: it takes a bug, or rows changed by hand.
BY_HAND = "No command leaves this behind. Were rows changed by hand? Else report it, with the run's events."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. A warning is what may also be so in a healthy system."""

    code: str
    severity: Severity
    run_id: uuid.UUID | None
    # Empty: the run as a whole.
    stage: str
    text: str
    fix: str = BY_HAND

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "run_id": None if self.run_id is None else str(self.run_id),
            "stage": self.stage or None,
            "text": self.text,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found, and where there may be more: codes of which only the first findings are listed."""

    findings: tuple[Finding, ...]
    cut: tuple[str, ...]
    # Runs that were looked at one by one, the newest first; more there may be.
    runs_seen: int
    all_runs_seen: bool

    @property
    def violations(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.severity == "violation")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.severity == "warning")
