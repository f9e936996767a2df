"""Settings of supervised worker processes: short leases, our own workflows."""

from tests.faults.settings import *  # noqa: F403
from tests.faults.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.hosts"]
