from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def own_database(django_db_blocker: Any) -> Iterator[None]:
    """Schedules have a database of their own, in memory."""
    with django_db_blocker.unblock():
        yield
