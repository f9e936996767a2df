"""Settings of worker processes that the fault tests start and kill: our own workflows, and leases that end soon.

Not so soon that a busy computer ends them: a test that kills a process lets its leases be over (``end_leases``).
"""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.faults"]
WORKFLOW_ENGINE = {"LEASE_SECONDS": 5, "BEAT_SECONDS": 0.5, "TICK_SECONDS": 0.3, "POLL_SECONDS": 0.05}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"workflow_engine": {"handlers": ["console"], "level": "INFO"}},
}
