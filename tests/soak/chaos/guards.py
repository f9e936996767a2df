"""Guards against a run that shows nothing: what must have happened at least once, for its result to count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.soak.chaos.book import Book
from tests.soak.chaos.facts import Facts
from tests.soak.chaos.hooks import Hook
from tests.soak.chaos.log import Log
from tests.soak.chaos.nemesis import Deed

# From so long on even what is seldom must have been seen.
LONG_SECONDS = 150


def seen(book: Book, facts: Facts, deeds: Sequence[Deed], hooks: list[Hook], log: Log) -> Counter[str]:
    """Count what happened."""
    entries = book.entries.values()
    done = [deed for deed in deeds if deed.was_done]
    bells = {
        kind: sum(deed.facts.get("bells", 0) for deed in done if deed.act.kind == f"redis-{kind}")
        for kind in ("flush", "drop", "double")
    }
    return Counter(
        {
            **Counter(deed.act.kind for deed in done),
            "kills during a body": facts.bystanders,
            "stages taken back": facts.outcomes["lost"],
            "bodies begun again": facts.re_executed,
            "attempts released": facts.outcomes["released"],
            "bodies that ended too late": facts.late_bodies,
            "results refused by the database": sum(log.refused.values()),
            "results dropped by their worker": sum(log.dropped.values()),
            "transactions repeated": log.repeated,
            "crash budgets spent": facts.budgets,
            "bells flushed": bells["flush"],
            "bells dropped": bells["drop"],
            "bells doubled": bells["double"],
            "requests without an answer": book.errors,
            "creates answered by an earlier one": sum(entry.replays for entry in entries),
            "cancels that won": sum(entry.cancelled is True for entry in entries),
            "cancels that lost": sum(entry.cancelled is False for entry in entries),
            "reruns": sum(entry.rerun for entry in entries),
            "reruns refused": sum(entry.rerun_refusals for entry in entries),
            "webhooks refused and sent again": sum(hook.counts["500"] for hook in hooks),
            "webhooks that hung": sum(hook.counts["hang"] for hook in hooks),
            "plugin calls repeated": facts.plugin_doubles,
            "retries": facts.outcomes["retrying"],
            "suspensions": facts.outcomes["suspended"],
        }
    )


def needed(kinds: Sequence[str], seconds: float) -> list[str]:
    """Name what must have been seen, of a lane with these acts."""
    groups = {kind.partition("-")[0] for kind in kinds}
    names = ["crash budgets spent", "creates answered by an earlier one", "cancels that won", "cancels that lost"]
    names += ["reruns", "reruns refused", "webhooks refused and sent again", "retries", "suspensions"]
    if "kill-worker" in kinds:
        names += ["kill-worker", "kills during a body", "stages taken back", "bodies begun again"]
    if "stop-worker" in kinds:
        names += ["stop-worker"]
    if "redis-flush" in kinds:
        names += ["redis-flush"]
    if seconds < LONG_SECONDS:
        return names
    names += [kind for kind in kinds if kind not in ("redis-hold", "redis-drop", "redis-away", "kill-supervisor")]
    if "stop" in groups:
        names += ["bodies that ended too late", "results dropped by their worker"]
    if "pg" in groups:
        names += ["transactions repeated", "requests without an answer"]
    if "deploy" in groups:
        names += ["attempts released"]
    if "redis" in groups:
        names += ["bells doubled"]
    return list(dict.fromkeys([*names, "webhooks that hung"]))
