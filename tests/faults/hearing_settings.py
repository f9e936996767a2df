"""Settings of worker processes that deliver events, and notice soon that another one died while it did."""

from tests.faults.settings import *  # noqa: F403
from tests.faults.settings import WORKFLOW_ENGINE as OTHERS

HEARING = {"EVENT_SINKS": ["tests.faults.hearing.FileSink"], "EVENT_TIMEOUT_SECONDS": 0.5}
WORKFLOW_ENGINE = {**OTHERS, **HEARING}
# What fails every third time is not to become a dead letter.
MOODY = {
    **HEARING,
    "EVENT_SINKS": [*HEARING["EVENT_SINKS"], "tests.faults.hearing.MoodySink"],
    "MAX_EVENT_TRIES": 50,
}
