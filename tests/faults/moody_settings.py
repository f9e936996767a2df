"""Settings of worker processes that deliver to a good sink, and to one that fails, is slow and hangs."""

from tests.faults.hearing_settings import *  # noqa: F403
from tests.faults.hearing_settings import MOODY
from tests.faults.settings import WORKFLOW_ENGINE as OTHERS

WORKFLOW_ENGINE = {**OTHERS, **MOODY}
