"""Crash points: named places in the code where a test lets the process die, raise, stop or stall.

Each is a no-op unless a test installed a hook, or the environment says ``WFE_CRASH_AT=name:n[:action]``: at the
``n``-th hit of ``name`` the process does ``kill`` itself (the default), ``raise`` a ``Crash``, ``stop`` (SIGSTOP) or
``sleep=3`` (seconds). Several may be given, separated by commas.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

CREATE_IN_TX = "create.in_tx"
CREATE_AFTER = "create.after"
CLAIM_IN_TX = "claim.in_tx"
CLAIM_AFTER = "claim.after"
START_IN_TX = "start.in_tx"
START_AFTER = "start.after"
EXEC_CLAIMED = "exec.claimed"
EXEC_MID = "exec.mid"
EXEC_RETURNED = "exec.returned"
BLOB_PUT = "blob.put"
COMPLETE_BEFORE = "complete.before"
COMPLETE_IN_TX = "complete.in_tx"
COMPLETE_AFTER = "complete.after"
CANCEL_IN_TX = "cancel.in_tx"
ANSWER_IN_TX = "answer.in_tx"
ANSWER_AFTER = "answer.after"
WAKE_IN_TX = "wake.in_tx"
POLL_CLAIMED = "poll.claimed"
POLL_CHECKED = "poll.checked"
POLL_IN_TX = "poll.in_tx"
POLL_AFTER = "poll.after"
SKIP_IN_TX = "skip.in_tx"
MAP_IN_TX = "map.in_tx"
CHILD_IN_TX = "child.in_tx"
NOTICE_IN_TX = "notice.in_tx"
NOTICE_AFTER = "notice.after"
PLACE_IN_TX = "place.in_tx"
PAUSE_IN_TX = "pause.in_tx"
EXPIRE_IN_TX = "expire.in_tx"
RELEASE_IN_TX = "release.in_tx"
REAP_IN_TX = "reap.in_tx"
REAP_AFTER = "reap.after"
RERUN_IN_TX = "rerun.in_tx"
RERUN_AFTER = "rerun.after"
BULK_START_IN_TX = "bulk.start_in_tx"
BULK_TAKEN = "bulk.taken"
BULK_IN_TX = "bulk.in_tx"
BULK_AFTER = "bulk.after"
BULK_END_IN_TX = "bulk.end_in_tx"
HAND_ON_IN_TX = "hand_on.in_tx"
FLUSH_CLAIMED = "flush.claimed"
FLUSH_EMITTED = "flush.emitted"
FLUSH_IN_TX = "flush.in_tx"
DEFERRED_PREPARED = "deferred.prepared"
DEFERRED_IN_TX = "deferred.in_tx"
DEFERRED_AFTER = "deferred.after"
SCHEDULE_PREPARED = "schedule.prepared"
SCHEDULE_IN_TX = "schedule.in_tx"
SCHEDULE_AFTER = "schedule.after"
PRUNE_IN_TX = "prune.in_tx"
PRUNE_AFTER = "prune.after"
WEBHOOK_SENT = "webhook.sent"

POINTS = (
    CREATE_IN_TX,
    CREATE_AFTER,
    CLAIM_IN_TX,
    CLAIM_AFTER,
    START_IN_TX,
    START_AFTER,
    EXEC_CLAIMED,
    EXEC_MID,
    EXEC_RETURNED,
    BLOB_PUT,
    COMPLETE_BEFORE,
    COMPLETE_IN_TX,
    COMPLETE_AFTER,
    CANCEL_IN_TX,
    ANSWER_IN_TX,
    ANSWER_AFTER,
    WAKE_IN_TX,
    POLL_CLAIMED,
    POLL_CHECKED,
    POLL_IN_TX,
    POLL_AFTER,
    SKIP_IN_TX,
    MAP_IN_TX,
    CHILD_IN_TX,
    NOTICE_IN_TX,
    NOTICE_AFTER,
    PLACE_IN_TX,
    PAUSE_IN_TX,
    EXPIRE_IN_TX,
    RELEASE_IN_TX,
    REAP_IN_TX,
    REAP_AFTER,
    RERUN_IN_TX,
    RERUN_AFTER,
    BULK_START_IN_TX,
    BULK_TAKEN,
    BULK_IN_TX,
    BULK_AFTER,
    BULK_END_IN_TX,
    HAND_ON_IN_TX,
    FLUSH_CLAIMED,
    FLUSH_EMITTED,
    FLUSH_IN_TX,
    DEFERRED_PREPARED,
    DEFERRED_IN_TX,
    DEFERRED_AFTER,
    SCHEDULE_PREPARED,
    SCHEDULE_IN_TX,
    SCHEDULE_AFTER,
    PRUNE_IN_TX,
    PRUNE_AFTER,
    WEBHOOK_SENT,
)


class Crash(BaseException):
    """A simulated death; nothing in the engine may catch it."""


Hook = Callable[[str], None]
_hook: Hook | None = None


def hit(name: str) -> None:
    """Pass the crash point ``name``."""
    if _hook is not None:
        _hook(name)


def install(hook: Hook | None) -> Hook | None:
    """Call ``hook`` at every point from now on (None: nothing); return the hook that was there."""
    global _hook
    before, _hook = _hook, hook
    return before


def hook_from(text: str) -> Hook:
    """Return the hook that ``name:n[:action][,…]`` asks for. Raises ``ValueError`` saying what is wrong."""
    hooks = [_one_hook(part.strip()) for part in text.split(",")]

    def hook(point: str) -> None:
        for one in hooks:
            one(point)

    return hook


def _one_hook(text: str) -> Hook:
    name, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if name not in POINTS:
        raise ValueError(f"WFE_CRASH_AT={text!r}: no crash point {name!r}. Points: {', '.join(POINTS)}.")
    if not count.isdigit() or int(count) < 1:
        raise ValueError(f"WFE_CRASH_AT={text!r}: write name:n, n = 1 for the first hit.")
    act = _action(action or "kill", text)
    hits: Counter[str] = Counter()
    lock = threading.Lock()

    def hook(point: str) -> None:
        with lock:
            hits[point] += 1
            mine = point == name and hits[point] == int(count)
        if mine:
            act()

    return hook


def _action(action: str, text: str) -> Callable[[], None]:
    if action == "kill":
        return lambda: os.kill(os.getpid(), signal.SIGKILL)
    if action == "stop":
        return lambda: os.kill(os.getpid(), signal.SIGSTOP)
    if action == "raise":
        return _crash
    verb, _, seconds = action.partition("=")
    if verb == "sleep" and seconds.replace(".", "", 1).isdigit():
        return lambda: time.sleep(float(seconds))
    raise ValueError(f"WFE_CRASH_AT={text!r}: the action must be kill, raise, stop or sleep=SECONDS, got {action!r}.")


def _crash() -> None:
    raise Crash


if asked := os.environ.get("WFE_CRASH_AT"):
    install(hook_from(asked))
