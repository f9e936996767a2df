"""What must hold when a round is over: each function yields what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from django.db import connection
from django.db.models import Count

from tests.invariants import check_run
from tests.soak.chaos.book import Book, Entry
from tests.soak.chaos.facts import Facts
from tests.soak.chaos.hearing import compare
from tests.soak.chaos.hooks import Hook
from tests.soak.chaos.plugins import heard
from tests.soak.chaos.workflows import EFFECTS, EXPECTED
from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import DeadLetter, OutboxEvent, StageAttempt, StageRun, WorkflowRun
from workflow_engine.sinks.signals import RUN_ENDS
from workflow_engine.statuses import FINISHED_RUN


class Checks:
    """Of the runs created since a moment. ``unlucky`` counts those whose worker was killed again and again."""

    def __init__(self, since: datetime, book: Book, facts: Facts, hooks: list[Hook]) -> None:
        self._since, self._book, self._facts, self._hooks = since, book, facts, hooks
        self.unlucky = 0
        # Subscriber -> after how many seconds it has heard of each event.
        self.lags: dict[str, list[float]] = {}

    def found(self) -> dict[str, list[str]]:
        checks: dict[str, Callable[[], Iterator[str]]] = {
            "lost": self._lost,
            "non-terminal": self._open,
            "double completion": self._completed_twice,
            "double terminal event": self._ended_twice,
            "wrong output": self._outcomes,
            "keys": self._keys,
            "reruns": self._reruns,
            "bodies": lambda: iter(self._facts.wrong),
            "effects": self._effects,
            "invariants": self._invariants,
            "doctor": self._doctor,
            "subscribers": self._subscribers,
        }
        return {name: list(check()) for name, check in checks.items()}

    def _runs(self):  # type: ignore[no-untyped-def]
        return WorkflowRun.objects.filter(created_at__gte=self._since)

    def _lost(self) -> Iterator[str]:
        there = {str(pk) for pk in self._runs().filter(parent_run=None).values_list("pk", flat=True)}
        for entry in self._book.entries.values():
            if not entry.run_id:
                yield f"{entry.key} was asked for and never answered"
            elif entry.run_id not in there:
                yield f"{entry.key}: run {entry.run_id} is not there"

    def _open(self) -> Iterator[str]:
        for run in self._runs().exclude(status__in=FINISHED_RUN):
            rows = StageRun.objects.filter(run=run).values_list("stage", "status", "attempt", "crashes", "due_at")
            yield f"{run.pk} ({run.workflow}) is {run.status}: {list(rows.exclude(status='COMPLETED'))}"

    def _completed_twice(self) -> Iterator[str]:
        won = StageAttempt.objects.filter(outcome="completed", run__created_at__gte=self._since).order_by()
        for row in won.values("stage_run", "run", "stage").annotate(times=Count("pk")).filter(times__gt=1):
            yield f"{row['run']} {row['stage']} was completed {row['times']} times"

    def _ended_twice(self) -> Iterator[str]:
        ends = OutboxEvent.objects.filter(type__in=tuple(RUN_ENDS), run__created_at__gte=self._since).order_by()
        for row in ends.values("run", "generation").annotate(times=Count("pk")).filter(times__gt=1):
            yield f"{row['run']} ended {row['times']} times in generation {row['generation']}"

    def _outcomes(self) -> Iterator[str]:
        rows = {str(run.pk): run for run in self._runs().filter(parent_run=None).select_related("data")}
        for entry in self._book.entries.values():
            run = rows.get(entry.run_id)
            if run is not None and run.status in FINISHED_RUN and (problem := self._problem(entry, run)):
                yield f"{run.pk} ({entry.key}, {entry.workflow}): {problem}"

    def _problem(self, entry: Entry, run: WorkflowRun) -> str:
        """Return what is wrong with the end of a run, or nothing."""
        if run.workflow != entry.workflow:
            return f"it is a {run.workflow}"
        # Who was not answered and asked again does not know which of both requests did it.
        unsure = entry.cancel_tries > 1
        if run.status == "CANCELLED":
            return "" if entry.cancelled or unsure else "it is CANCELLED, and nobody was told so"
        if entry.cancelled:
            return f"it was cancelled and is {run.status}"
        expected, code = EXPECTED[entry.workflow], (run.error or {}).get("code")
        if expected is None:
            fits = run.status == "FAILED" and (code == "WORKER_LOST") == (entry.workflow == "poison")
            return "" if fits or self._is_unlucky(run) else f"it is {run.status}: {run.error}"
        if run.status != "COMPLETED":
            return "" if self._is_unlucky(run) else f"it is {run.status}: {run.error}"
        return "" if run.get_output() == expected(entry.text) else "its output is wrong"

    def _is_unlucky(self, run: WorkflowRun) -> bool:
        """Whether a stage of it was given up because each time somebody else killed the worker that ran it alone."""
        lost = StageRun.objects.filter(run=run, status="FAILED", crashes__gte=get_setting("MAX_CRASHES"))
        unlucky = any(self._facts.excused[row.pk] >= row.crashes for row in lost)
        self.unlucky += unlucky
        return unlucky

    def _keys(self) -> Iterator[str]:
        made = [entry.run_id for entry in self._book.entries.values() if entry.run_id]
        mine = self._runs().filter(parent_run=None).count()
        if len(set(made)) != len(made) or mine != len(made):
            yield f"{len(made)} keys have {len(set(made))} runs, and {mine} are there"
        for entry in self._book.entries.values():
            if entry.other_ids:
                yield f"{entry.key} was answered by different runs"

    def _reruns(self) -> Iterator[str]:
        generations = {str(pk): number for pk, number in self._runs().values_list("pk", "generation")}
        for entry in self._book.entries.values():
            if generations.get(entry.run_id, 0) != entry.rerun:
                yield f"{entry.run_id} was rerun {generations.get(entry.run_id)} times, wanted {int(entry.rerun)}"

    def _effects(self) -> Iterator[str]:
        """What a stage writes in the transaction that completes it is there exactly once."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT run_id, generation, count(*) FROM {EFFECTS} GROUP BY run_id, generation")
            there = {(run_id, generation): times for run_id, generation, times in cursor.fetchall()}
        rows = StageRun.objects.filter(run__created_at__gte=self._since, stage="keep", run__workflow="line")
        for run_id, generation, status in rows.values_list("run_id", "generation", "status"):
            times, wanted = there.pop((str(run_id), generation), 0), int(status == "COMPLETED")
            if times != wanted:
                yield f"{run_id} keep, generation {generation}, is {status} and has {times} effects"
        if there:
            yield f"{len(there)} effects of no stage"

    def _invariants(self) -> Iterator[str]:
        for run in self._runs().select_related("data").iterator():
            try:
                check_run(run)
            except AssertionError as error:
                yield str(error)

    def _doctor(self) -> Iterator[str]:
        for finding in examine(get_kernel().ports).violations:
            yield f"{finding.code} {finding.run_id} {finding.stage}: {finding.text}"

    def _subscribers(self) -> Iterator[str]:
        """Each has heard of all that it wants of each run, the first time in order; nothing was given up."""
        for letter in DeadLetter.objects.all()[:5]:
            yield f"dead letter: {letter.subscriber} {letter.run_id} {letter.sequence}: {letter.error[:200]}"
        rows = OutboxEvent.objects.filter(run__created_at__gte=self._since).order_by("run_id", "sequence")
        wanted: dict[str, list[tuple[int, str]]] = {}
        happened: dict[tuple[str, int], float] = {}
        for run_id, sequence, kind, at in rows.values_list("run_id", "sequence", "type", "occurred_at").iterator():
            wanted.setdefault(str(run_id), []).append((sequence, kind))
            happened[str(run_id), sequence] = at.timestamp()
        yield from self._compare("the plugin", ("*",), wanted, happened, heard())
        for hook in self._hooks:
            yield from hook.wrong
            yield from self._compare(f"the webhook {hook.name}", hook.events, wanted, happened, hook.heard())

    def _compare(  # type: ignore[no-untyped-def]
        self, who: str, events: tuple[str, ...], wanted, happened, found: list[tuple[float, str, int]]
    ) -> Iterator[str]:
        mine = self._mine(found)
        first: dict[tuple[str, int], float] = {}
        for at, run_id, sequence in mine:
            first.setdefault((run_id, sequence), at)
        self.lags[who] = [at - happened[key] for key, at in first.items() if key in happened]
        yield from compare(who, events, wanted, mine)

    def _mine(self, found: list[tuple[float, str, int]]) -> list[tuple[float, str, int]]:
        """Leave out what somebody heard once more of a run of an earlier round."""
        runs = WorkflowRun.objects.filter(created_at__lt=self._since)
        earlier = {
            str(pk) for pk in runs.filter(pk__in={run_id for _, run_id, _ in found}).values_list("pk", flat=True)
        }
        return [row for row in found if row[1] not in earlier]
