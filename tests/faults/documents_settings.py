"""Settings of worker processes that run the example's workflow and are killed at it."""

from tests.faults.settings import *  # noqa: F403
from tests.faults.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "example_project.documents"]
