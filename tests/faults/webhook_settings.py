"""Settings of worker processes that send webhooks to this computer, and notice soon that another one died meanwhile."""

from tests.faults.settings import *  # noqa: F403
from tests.faults.settings import WORKFLOW_ENGINE as OTHERS

WEBHOOKS = {
    "WEBHOOK_ALLOW_HTTP": True,
    "WEBHOOK_ALLOW_PRIVATE": True,
    "WEBHOOK_PORTS": [],
    # The claim of a process that died lasts twice as long, and some seconds.
    "WEBHOOK_TIMEOUT": 0.5,
}
WORKFLOW_ENGINE = {**OTHERS, **WEBHOOKS}
