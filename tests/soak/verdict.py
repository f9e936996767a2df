"""What must hold at the end: nothing lost, nothing doubled, every output right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from tests.limits.overlap import most_at_once
from tests.soak.journal import entries
from tests.soak.load import Load
from tests.soak.report import Report
from tests.soak.workflows import CROWD, EXPECTED
from workflow_engine.models import RunPlace, StageAttempt, StageMap, StageRun, WorkflowRun
from workflow_engine.testing.invariants import find_violations

SHOWN = 5
# What is wrong with a server is said once by each worker, and once more by each loop and thread that meets it.
MOST_SAID = 15
OFTEN = "stage taken from a lost worker"


def check_everything(report: Report, load: Load) -> None:
    for name, found in {
        "runs": _runs(load),
        "stages": _stages(),
        "bodies": _bodies(),
        "invariants": _invariants(),
        "limits": _limits(),
    }.items():
        wrong = list(found)
        for text in wrong[:SHOWN]:
            report.violation(f"{name}: {text}")
        if len(wrong) > SHOWN:
            report.violation(f"{name}: {len(wrong) - SHOWN} more")
    outcomes = Counter(StageAttempt.objects.values_list("outcome", flat=True))
    report.figure("runs created", f"{len(load.created)} ({load.refused} times refused and asked again)")
    report.figure("runs ended", str(dict(Counter(WorkflowRun.objects.values_list("status", flat=True)))))
    report.figure("attempts", str(dict(outcomes)))
    _logs(report)


def _runs(load: Load) -> Iterator[str]:
    """Every created run exists once and ended as its workflow says, with the right output."""
    mine = WorkflowRun.objects.filter(parent_run=None, workflow__in=EXPECTED)
    rows = {str(run.pk): run for run in mine.select_related("data")}
    if len(rows) != len(load.created) or len({item.run_id for item in load.created}) != len(load.created):
        yield f"{len(load.created)} were created, {len(rows)} are there"
    for item in load.created:
        run, expected = rows.get(item.run_id), EXPECTED[item.workflow]
        if run is None:
            yield f"{item} is lost"
        elif expected is None:
            if run.status != "FAILED":
                yield f"{run.pk} ({item.workflow}) is {run.status}, not FAILED"
        elif run.status != "COMPLETED":
            yield f"{run.pk} ({item.workflow}) is {run.status}, not COMPLETED: {run.error}"
        elif run.get_output() != expected(item.input):
            yield f"{run.pk} ({item.workflow}) has a wrong output"


def _stages() -> Iterator[str]:
    won = Counter(StageAttempt.objects.filter(outcome="completed").values_list("stage_run_id", flat=True))
    # A mapped stage ends with its items, and not by an attempt of its own.
    maps = set(StageMap.objects.values_list("pk", flat=True))
    for pk, run_id, stage, status in StageRun.objects.values_list("pk", "run_id", "stage", "status"):
        if won[pk] != (status == "COMPLETED" and pk not in maps):
            yield f"{run_id} {stage} is {status} and has {won[pk]} completed attempts"
    unplanned = StageAttempt.objects.filter(outcome__in=("failed", "retrying")).exclude(error_class__contains="Flaky")
    for attempt in unplanned:
        where = f"{attempt.run_id} {attempt.stage} attempt {attempt.attempt}"
        yield f"{where} failed by {attempt.error_class} {attempt.error_code}: {attempt.error_message[:200]}"


def _bodies() -> Iterator[str]:
    """Each token's body was entered at most once, and the winning ones entered and left."""
    found = entries()
    entered = Counter(entry.key for entry in found if entry.kind == "in")
    left = {entry.key for entry in found if entry.kind == "out"}
    for key, count in entered.items():
        if count > 1:
            yield f"{key} was entered {count} times"
    # What a check has completed was entered by a body that ended by waiting.
    won = StageAttempt.objects.filter(outcome="completed", kind="body")
    winners = won.values_list("run_id", "stage", "stage_run__map_index", "attempt")
    for run_id, stage, item, attempt in winners:
        key = (str(run_id), stage, item, attempt)
        if not entered[key] or key not in left:
            yield f"{key} is completed, and its body was not entered and left"


def _invariants() -> Iterator[str]:
    yield from map(str, find_violations(quiet=False, pruned=False))


def _limits() -> Iterator[str]:
    """No key had more runs under way than the limit says, and nobody waits or holds a place for nothing."""
    for key, most in most_at_once().items():
        if most > CROWD:
            yield f"{most} runs with the key {key!r} were under way at the same time"
    for place in RunPlace.objects.waiting():
        yield f"{place.run_id} waits for a place of {place.key!r}"


def _logs(report: Report) -> None:
    """Count what the workers complained of; a traceback is a violation."""
    text = (Path(settings.SCRATCH) / "worker.log").read_text(errors="replace")
    complaints: Counter[str] = Counter()
    by_one: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        match = re.match(r"\S+ \S+ (\d+) (WARNING|ERROR|CRITICAL) \S+ (.*)", line)
        if match:
            complaints[f"{match[2]} {_words(match[3])}"] += 1
            by_one[match[1], _words(match[3])] += 1
    for words, count in complaints.most_common(20):
        report.figure(f"log: {words}", str(count))
    for (pid, words), count in by_one.items():
        often = count > MOST_SAID and not words.startswith(OFTEN)
        report.check(not often, f"process {pid} said {count} times: {words}")
    tracebacks = text.count("Traceback (most recent call last)")
    report.check(not tracebacks, f"worker.log has {tracebacks} tracebacks, the first: {_first_traceback(text)}")


def _words(message: str) -> str:
    """Return the message without its facts: what stands before the first ``key=value``."""
    return re.split(r" \w+=", message)[0][:80]


def _first_traceback(text: str) -> str:
    start = text.find("Traceback (most recent call last)")
    lines = text[start:].splitlines()
    end = next((number for number, line in enumerate(lines[1:], 1) if not line.startswith(" ")), 1)
    return " | ".join(line.strip() for line in lines[max(1, end - 4) : end + 1])
