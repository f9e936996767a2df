"""Threads that run others' code, and their database connections."""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.conf import settings
from django.db import connections, reset_queries

logger = logging.getLogger(__name__)
Lent = Mapping[str, Any]
Task = tuple["Future[Any]", Callable[[], Any]]


def tidy_connections() -> None:
    """Close what a body left broken or in a transaction; keep the good ones open for the next stage."""
    for connection in connections.all(initialized_only=True):
        left_open = connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)
        if left_open:
            # In a block Django would keep the connection to roll it back; this one is given up whole.
            connection.in_atomic_block = False
            connection.close()
            del connections[connection.alias]
        elif connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
    if settings.DEBUG:
        reset_queries()


@contextmanager
def lending() -> Iterator[Lent]:
    """Lend this thread's connections that are in a transaction, by alias, to other threads, one at a time.

    In a test, say: what is called from an ``async def`` body is to see what the test has written, and it must not wait
    for its locks.
    """
    lent = {item.alias: item for item in connections.all(initialized_only=True) if item.in_atomic_block}
    for connection in lent.values():
        connection.inc_thread_sharing()
    try:
        yield lent
    finally:
        for connection in lent.values():
            connection.dec_thread_sharing()


class BlockingCalls:
    """Threads for what ``async def`` bodies hand over: by ``asyncio.to_thread``, and by Django's async methods.

    The latter ask for one thread for all; here a task has one of ``orm``, all its calls the same. With connections that
    are ``lent`` by the caller there is one thread for everything.
    """

    def __init__(self, *, threads: int, orm: int, lent: Lent | None = None) -> None:
        self._calls = TidyPool(1 if lent else threads, "wfe-loop-call", lent)
        self._orm = {ThreadSensitiveContext(): self._calls if lent else TidyPool(1, "wfe-loop-orm") for _ in range(orm)}
        self._turns = itertools.cycle(self._orm)

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_default_executor(self._calls)
        SyncToAsync.context_to_thread_executor.update(self._orm)

    def adopt_task(self) -> None:
        """Let the calls of the current task, and of tasks that it makes, run here."""
        SyncToAsync.thread_sensitive_context.set(next(self._turns))

    def close(self) -> None:
        """End idle threads, waiting a moment for them; their connections are closed."""
        for pool in (self._calls, *self._orm.values()):
            pool.shutdown()


class TidyPool(ThreadPoolExecutor):
    """Threads for blocking calls of ``async def`` bodies; each tidies its connections after every call.

    Daemons, so that a call that hangs cannot keep a drained process alive. An event loop takes nothing but a
    ``ThreadPoolExecutor`` as its default; nothing but the name is inherited.
    """

    def __init__(self, size: int, name: str, lent: Lent | None = None) -> None:
        super().__init__(size, name)
        self._lent = lent or {}
        self._size, self._name = size, name
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._mine: list[threading.Thread] = []
        # Tasks under way or waiting; a thread is added while there are more than threads.
        self._busy = 0
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._guard:
            if self._closed:
                raise RuntimeError("this worker's event loop has been stopped")
            self._busy += 1
            if self._busy > len(self._mine) < self._size:
                self._mine.append(threading.Thread(target=self._run, name=self._name, daemon=True))
                self._mine[-1].start()
        self._tasks.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End idle threads; busy ones end after their call. ``wait`` waits a second for them."""
        with self._guard:
            self._closed = True
        for _ in self._mine:
            self._tasks.put(None)
        end = time.monotonic() + (1.0 if wait else 0.0)
        for thread in self._mine:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        for alias, connection in self._lent.items():
            connections[alias] = connection
        try:
            while (task := self._tasks.get()) is not None:
                _do(*task)
                del task
                try:
                    # What is lent is in a transaction, and is to stay so.
                    if not self._lent:
                        tidy_connections()
                except Exception:
                    logger.exception("database connections cannot be tidied")
                with self._guard:
                    self._busy -= 1
        finally:
            for alias in self._lent:
                del connections[alias]
            connections.close_all()


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
