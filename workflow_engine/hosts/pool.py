"""Threads that run stages. A thread that hangs can be given up and replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from django.db import connections

from workflow_engine.executors.tidying import tidy_connections

logger = logging.getLogger(__name__)
Task = Callable[[], None]
STOP_SECONDS = 1.0


class ThreadPool:
    """``size`` daemon threads, each with its own database connections. Daemons, so that a hung body cannot keep a
    drained process alive."""

    def __init__(self, size: int, *, items: int | None = None) -> None:
        """``items``: so many threads at most run items of maps at the same time; None: any number."""
        self._tasks: deque[Task | None] = deque()
        # Items of maps, which have their turn when nothing else waits.
        self._items: deque[Task] = deque()
        self._most_items = size if items is None else items
        self._running_items: set[threading.Thread] = set()
        self._changed = threading.Condition(threading.Lock())
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._given_up: set[threading.Thread] = set()
        for _ in range(size):
            self._spawn()

    def submit(self, task: Task, *, item: bool = False) -> None:
        with self._changed:
            (self._items if item else self._tasks).append(task)
            self._changed.notify()

    def submit_quick(self, tasks: Sequence[Task], *, items: bool = False) -> None:
        """Wake one thread for all: for tasks so short that waking a thread for each costs more than they do.

        The caller must say ``spread`` a moment later, in case they are not.
        """
        with self._changed:
            (self._items if items else self._tasks).extend(tasks)
            self._changed.notify()

    def spread(self) -> None:
        """Let every task that still waits have a thread of its own."""
        with self._changed:
            self._changed.notify(self.waiting)

    @property
    def waiting(self) -> int:
        """How many tasks have not begun."""
        return len(self._tasks) + len(self._items)

    def give_up(self, thread: threading.Thread) -> None:
        """Count ``thread`` as a zombie and let another take its place; it ends when its body does."""
        with self._lock:
            if thread not in self._threads or thread in self._given_up:
                return
            self._given_up.add(thread)
        with self._changed:
            self._running_items.discard(thread)
        self._spawn()

    @property
    def zombies(self) -> int:
        with self._lock:
            return len(self._given_up)

    def stop(self) -> None:
        """End idle threads, waiting a moment for them; busy ones end after their task."""
        with self._lock:
            threads = list(self._threads)
        with self._changed:
            self._tasks.extend([None] * len(threads))
            self._changed.notify_all()
        end = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _spawn(self) -> None:
        thread = threading.Thread(target=self._run, name="wfe-stage", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _next(self, me: threading.Thread) -> Task | None:
        with self._changed:
            self._running_items.discard(me)
            while not self._tasks and (not self._items or len(self._running_items) >= self._most_items):
                self._changed.wait()
            if self._tasks:
                return self._tasks.popleft()
            self._running_items.add(me)
            return self._items.popleft()

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while (task := self._next(me)) is not None:
                try:
                    task()
                except Exception:
                    logger.exception("a stage thread failed outside its body")
                tidy_connections()
                with self._lock:
                    if me in self._given_up:
                        break
        except BaseException:
            logger.exception("a stage thread died, another takes its place")
            self._spawn()
            raise
        finally:
            with self._lock:
                self._threads.discard(me)
                self._given_up.discard(me)
            with self._changed:
                self._running_items.discard(me)
                self._changed.notify()
            connections.close_all()
