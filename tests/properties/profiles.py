"""How much Hypothesis tries: little and always the same, or as much as ``WFE_HYPOTHESIS_PROFILE=long`` asks for."""

from __future__ import annotations

import os
from datetime import timedelta

from django.conf import settings as django_settings
from hypothesis import HealthCheck, Phase, settings

PROFILE = os.environ.get("WFE_HYPOTHESIS_PROFILE", "ci")
IS_LONG = PROFILE == "long"
# Everything is tried on the database that costs least; the others say the same but for their SQL.
IS_FIRST = django_settings.BACKEND == "sqlite"


def steps(examples: int, elsewhere: int, long: int, length: int = 30) -> settings:
    """Return settings for a test: ``examples`` on SQLite, ``elsewhere`` on others, ``long`` in the long profile."""
    most = int(os.environ.get("WFE_HYPOTHESIS_EXAMPLES", long)) if IS_LONG else examples if IS_FIRST else elsewhere
    return settings(
        max_examples=most,
        stateful_step_count=100 if IS_LONG else length,
        # In the long profile what failed is kept in .hypothesis/, and tried first.
        derandomize=not IS_LONG,
        database=settings.default.database if IS_LONG and settings.default else None,
        deadline=timedelta(minutes=2) if IS_LONG else None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=tuple(phase for phase in Phase if phase != Phase.explain),
    )
