from __future__ import annotations

import sys

import pytest
from hypothesis.stateful import run_state_machine_as_test

from .machine import Commands
from .profiles import IS_LONG, steps

MUST_BE_SEEN = ["attempt completed", "attempt ghost", "attempt retrying", "attempt suspended", "delivered"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_commands_in_any_order_come_to_what_the_model_says() -> None:
    run_state_machine_as_test(Commands, settings=steps(25, elsewhere=8, long=3_000))

    # Hypothesis chooses: that it chose something is to be seen.
    assert not [what for what in MUST_BE_SEEN if not Commands.seen[what]], Commands.seen
    if IS_LONG:
        sys.stdout.write(f"{sorted(Commands.seen.items())}\n")
