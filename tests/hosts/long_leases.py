"""Settings of supervised worker processes whose leases outlast every test."""

from tests.hosts.settings import *  # noqa: F403
from tests.hosts.settings import WORKFLOW_ENGINE as _ENGINE

WORKFLOW_ENGINE = {**_ENGINE, "LEASE_SECONDS": 600}
