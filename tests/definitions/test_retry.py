from __future__ import annotations

from datetime import timedelta

import pytest

from workflow_engine.definitions import NonRetryableError, Retry, RetryAfter
from workflow_engine.errors import InvalidDefinition, InvalidOutput


def test_the_wait_doubles_up_to_the_maximum() -> None:
    policy = Retry(max_attempts=10, initial=timedelta(seconds=2), maximum=timedelta(seconds=10), jitter=0)

    waits = [policy.delay_after(ValueError(), failures) for failures in range(1, 6)]

    assert waits == [timedelta(seconds=seconds) for seconds in (2, 4, 8, 10, 10)]


def test_jitter_moves_the_wait_by_at_most_its_share() -> None:
    policy = Retry(max_attempts=10, initial=timedelta(seconds=100), jitter=0.1)

    waits = {policy.delay_after(ValueError(), 1) for _ in range(200)}

    assert len(waits) > 100
    assert all(wait and timedelta(seconds=90) <= wait <= timedelta(seconds=110) for wait in waits)


def test_the_last_attempt_is_not_followed_by_another() -> None:
    assert Retry(max_attempts=3).delay_after(ValueError(), 3) is None


@pytest.mark.parametrize("error", [NonRetryableError("no"), InvalidOutput("x", []), KeyError("declared")])
def test_errors_that_cannot_get_better_are_final(error: Exception) -> None:
    assert Retry(max_attempts=9, no_retry_on=KeyError).delay_after(error, 1) is None


def test_a_body_can_name_its_own_wait() -> None:
    assert Retry().delay_after(RetryAfter(timedelta(minutes=7)), 1) == timedelta(minutes=7)


def test_an_absurd_number_of_failures_does_not_overflow() -> None:
    policy = Retry(max_attempts=10**9, factor=10.0, jitter=0)

    assert policy.delay_after(ValueError(), 10**8) == policy.maximum


def test_a_first_wait_that_the_maximum_would_cut_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="initial must not be above maximum"):
        Retry(initial=timedelta(hours=1))
