"""The peer's defects put back into this engine, for the tests that say it has none of them: a plugin of pytest.

``python -m pytest -p tests.scenarios.defects …`` breaks the engine in each test that ``DEFECTS`` names, in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

Break = Callable[[], AbstractContextManager[Any]]


def _mutants(*names: str) -> Break:
    @contextmanager
    def broken() -> Iterator[None]:
        # Once Django is set up.
        from tests.simulation.mutants import MUTANTS

        with ExitStack() as stack:
            for name in names:
                stack.enter_context(MUTANTS[name]())
            yield

    return broken


@contextmanager
def _whoever_releases() -> Iterator[None]:
    """P14: what is given back is put back, whoever holds it now."""
    from tests.simulation.breaking import handler
    from workflow_engine.kernel.commands import ReleaseStages, release_stages
    from workflow_engine.kernel.unit_of_work import transact
    from workflow_engine.models import StageRun

    def release(command: Any, ports: Any, causation_id: Any) -> Any:
        rows = StageRun.objects.using(ports.using).held().filter(pk__in=list(command.tokens))
        give_back = partial(release_stages._release, skip_locked=False)
        done = [row.pk for row in rows if transact(ports, causation_id, partial(give_back, candidate=row))]
        return release_stages.ReleaseStagesResult(released=tuple(done))

    with handler(ReleaseStages, lambda original: release):
        yield


@contextmanager
def _one_clock_each() -> Iterator[None]:
    """P15: each host goes by its own clock."""
    from tests.scenarios.test_known_defects_of_leases import OtherHost
    from tests.simulation.breaking import attribute

    with attribute(OtherHost, "db_now", lambda self: self.now()):
        yield


@contextmanager
def _claims_share_their_fate() -> Iterator[None]:
    """P16: runs are claimed in one transaction, and that is all."""
    from tests.simulation.breaking import attribute
    from workflow_engine.kernel.commands import claim_pending_runs

    with attribute(claim_pending_runs, "_claim_each", lambda *given: None):
        yield


@contextmanager
def _unknown_means_wrong() -> Iterator[None]:
    """P17: what nobody here knows is failed at once, though somebody else may be about to know it."""
    from tests.simulation.breaking import attribute
    from workflow_engine.kernel.commands import reap_unknown

    with attribute(reap_unknown, "_grace", lambda ports: timedelta(0)):
        yield


@contextmanager
def _stops_at_once() -> Iterator[None]:
    """P19: a worker that is told to stop waits for nobody."""
    from tests.simulation.breaking import attribute
    from workflow_engine.hosts.worker import Worker

    original = Worker.stop

    def stop(self: Any) -> None:
        original(self)
        self._beating.give_back()

    with attribute(Worker, "stop", stop):
        yield


@contextmanager
def _gives_nothing_back() -> Iterator[None]:
    """P19: a worker that stops leaves what it holds to whoever finds it."""
    from tests.simulation.breaking import attribute
    from workflow_engine.hosts.beating import Beating

    with attribute(Beating, "give_back", lambda self: None):
        yield


class _NoPool:
    """Runs what it is given in the caller's thread."""

    zombies = 0

    def __init__(self, size: int) -> None:
        pass

    def submit(self, task: Callable[[], None]) -> None:
        task()

    def stop(self) -> None:
        pass


@contextmanager
def _checks_in_the_tick() -> Iterator[None]:
    """P10: the tick makes the checks that are due before it goes on. The test waits less for what never comes."""
    from tests.scenarios import test_known_defects_of_workers as tests
    from tests.simulation.breaking import attribute
    from tests.waiting import until
    from workflow_engine.hosts import lane
    from workflow_engine.hosts.orchestrator import Orchestrator
    from workflow_engine.hosts.sleepers import Sleepers

    tick, sleepers = Orchestrator.tick, list[Any]()

    def step(self: Any) -> float:
        sleepers[:] = [self]
        return 1.0

    def checking_tick(self: Any) -> Any:
        for one in sleepers:
            one._step()
        return tick(self)

    with (
        attribute(lane, "ThreadPool", _NoPool),
        attribute(Sleepers, "step", step),
        attribute(Orchestrator, "tick", checking_tick),
        attribute(tests, "until", partial(until, seconds=5)),
    ):
        yield


@contextmanager
def _messages_before_the_commit() -> Iterator[None]:
    """P12: messages are sent within the transaction that makes them true."""
    from django.db import transaction

    from tests.simulation.breaking import attribute
    from workflow_engine.kernel import unit_of_work

    class Early:
        def on_commit(self, func: Callable[[], None], **_: Any) -> None:
            func()

        def __getattr__(self, name: str) -> Any:
            return getattr(transaction, name)

    with attribute(unit_of_work, "transaction", Early()):
        yield


# File -> test -> what breaks the engine in it.
_TESTS: dict[str, dict[str, Break]] = {
    "scenarios/test_known_defects.py": {
        "test_p01_a_worker_that_dies_around_the_end_of_a_stage_leaves_a_run_that_goes_on": (
            _mutants("advance-after-commit")
        ),
        "test_p02_a_stage_that_is_suspended_for_a_month_is_on_schedule_and_fails_nobody": _mutants("age-means-dead"),
        "test_p03_a_backlog_of_an_hour_without_any_worker_fails_nobody": _mutants("age-means-dead"),
        "test_p04_a_stage_that_runs_for_a_day_under_a_live_lease_completes": _mutants("age-means-dead"),
        "test_p05_a_zombie_that_finishes_after_its_stage_was_done_again_changes_nothing": (
            _mutants("no-token-in-completion", "no-status-in-completion", "attempts-are-not-unique")
        ),
        "test_p06_a_client_that_retries_its_key_after_a_crash_has_one_run": _mutants("key-after-commit"),
    },
    "scenarios/test_delivery.py": {
        "test_t30_a_body_that_kills_its_worker_is_given_up": _mutants("no-crash-budget"),
    },
    "scenarios/test_cancelling.py": {
        "test_t47_the_stages_of_a_running_run_follow_and_its_late_result_is_dropped": (
            _mutants("no-token-in-completion", "no-status-in-completion", "attempts-are-not-unique")
        ),
        "test_t48_cancel_racing_completion_gives_one_terminal_status_and_one_terminal_event": (
            _mutants("cancel-reads-first", "no-status-of-the-run")
        ),
    },
    "scenarios/test_outbox.py": {
        "test_t54_two_who_flush_deliver_nothing_twice": _mutants("deliveries-are-not-claimed"),
    },
    "scenarios/test_polling.py": {
        "test_t42_an_error_of_the_check_is_tried_again_by_its_own_policy_and_then_fails": (
            _mutants("check-errors-are-final")
        ),
        "test_t42_a_check_that_works_again_leaves_no_stale_error_and_the_budget_is_whole_again": (
            _mutants("check-errors-are-final")
        ),
    },
    "scenarios/test_known_defects_of_leases.py": {
        "test_p14_a_worker_that_lost_its_stage_settles_nothing_of_whoever_has_it_now[release]": _whoever_releases,
        "test_p14_a_worker_that_lost_its_stage_settles_nothing_of_whoever_has_it_now[complete]": (
            _mutants("no-token-in-completion", "attempts-are-not-unique")
        ),
        "test_p15_clocks_that_differ_by_hours_take_no_stage_early_and_none_late": _one_clock_each,
    },
    "scenarios/test_known_defects_of_workers.py": {
        "test_p10_a_check_that_never_returns_keeps_no_claim_no_reap_and_no_event_waiting": _checks_in_the_tick,
        "test_p12_a_worker_that_is_faster_than_the_claim_finds_nothing_or_a_run_that_runs": (
            _messages_before_the_commit
        ),
        "test_p16_an_error_of_the_database_while_one_run_is_claimed_is_that_runs_alone": _claims_share_their_fate,
        "test_p17_a_host_without_the_new_workflow_leaves_its_runs_to_those_that_have_it": _unknown_means_wrong,
        "test_p18_a_late_or_repeated_clean_up_after_a_rerun_deletes_nothing_of_the_new_attempt[False]": (
            _mutants("rerun-deletes-by-prefix")
        ),
    },
    "hosts/test_worker.py": {
        "test_stopping_lets_bodies_finish_and_takes_nothing_new": _stops_at_once,
        "test_what_is_not_done_within_the_grace_time_is_released_and_spends_nothing": _gives_nothing_back,
    },
}
DEFECTS = {f"tests/{file}::{name}": broken for file, tests in _TESTS.items() for name, broken in tests.items()}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run the test with its defect."""
    broken = DEFECTS.get(item.nodeid) or DEFECTS.get(item.nodeid.split("[")[0]) or nullcontext
    with broken():
        yield
