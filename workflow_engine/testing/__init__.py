"""What tests of projects (and our own) use: fakes, a driver without workers, and the conformance suites."""

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.definitions.registry import registry_override
from workflow_engine.transports.eager import EagerTransport

from .clock import FakeClock
from .contexts import stage_context
from .driving import run_workflow
from .kernels import SilentTransport, create_test_kernel

__all__ = [
    "EagerTransport",
    "FakeClock",
    "InMemoryBlobStore",
    "SilentTransport",
    "create_test_kernel",
    "registry_override",
    "run_workflow",
    "stage_context",
]
