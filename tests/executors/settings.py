"""Settings of the child processes that the executors' tests start: our bodies are registered."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.executors"]
