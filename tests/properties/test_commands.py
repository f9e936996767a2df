from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from .machine import Commands
from .profiles import steps


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_commands_in_any_order_come_to_what_the_model_says() -> None:
    run_state_machine_as_test(Commands, settings=steps(40, elsewhere=8, long=3_000))
