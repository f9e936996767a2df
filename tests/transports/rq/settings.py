"""Settings of the processes that tests start: django-rq is installed, so the transport is RQ without a word."""

import os

from tests.faults.settings import *  # noqa: F403
from tests.faults.settings import INSTALLED_APPS as _APPS
from tests.faults.settings import WORKFLOW_ENGINE as _ENGINE

INSTALLED_APPS = [*_APPS, "django_rq"]
WORKFLOW_ENGINE = dict(_ENGINE)
RQ_QUEUES = {
    name: {"URL": os.environ.get("WFE_TEST_OWN_REDIS_URL", "redis://127.0.0.1:1"), "SERIALIZER": "json"}
    for name in ("default", "workflows")
}
