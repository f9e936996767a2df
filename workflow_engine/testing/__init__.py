"""What tests of projects (and our own) use: fakes, a driver without workers, and the conformance suites."""

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel.subscribers import Subscriber
from workflow_engine.sinks.collecting import CollectingEventSink
from workflow_engine.transports.eager import EagerTransport

from .clock import FakeClock
from .contexts import stage_context
from .crash_report import CrashReport
from .crashing import crash_test
from .driving import run_workflow
from .kernels import SilentTransport, create_test_kernel

__all__ = [
    "CollectingEventSink",
    "CrashReport",
    "EagerTransport",
    "FakeClock",
    "InMemoryBlobStore",
    "SilentTransport",
    "Subscriber",
    "crash_test",
    "create_test_kernel",
    "registry_override",
    "run_workflow",
    "stage_context",
]
