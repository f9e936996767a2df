"""Settings of worker processes that the fault tests start and kill: short leases, our own workflows."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.faults"]
WORKFLOW_ENGINE = {"LEASE_SECONDS": 1.5, "BEAT_SECONDS": 0.3, "TICK_SECONDS": 0.3, "POLL_SECONDS": 0.05}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"workflow_engine": {"handlers": ["console"], "level": "INFO"}},
}
