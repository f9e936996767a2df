"""What the engine can do: one file per command. Importing this package enters every handler."""

from workflow_engine.kernel.finished import Finished, Outcome
from workflow_engine.kernel.ports import WorkerFacts

from .annotate import Annotate, AnnotateResult
from .base import HANDLERS, Command
from .beat import Beat, BeatResult
from .cancel_run import CancelRun, CancelRunResult
from .claim_pending_runs import ClaimPendingRuns, ClaimPendingRunsResult
from .create_run import CreateRun, CreateRunResult
from .finish_stages import FinishStages, FinishStagesResult
from .reap_stale_leases import ReapStaleLeases, ReapStaleLeasesResult
from .release_stages import ReleaseStages, ReleaseStagesResult
from .start_stages import StartStages, StartStagesResult
from .transition_run import TransitionRun, TransitionRunResult

__all__ = [
    "HANDLERS",
    "Annotate",
    "AnnotateResult",
    "Beat",
    "BeatResult",
    "CancelRun",
    "CancelRunResult",
    "ClaimPendingRuns",
    "ClaimPendingRunsResult",
    "Command",
    "CreateRun",
    "CreateRunResult",
    "FinishStages",
    "FinishStagesResult",
    "Finished",
    "Outcome",
    "ReapStaleLeases",
    "ReapStaleLeasesResult",
    "ReleaseStages",
    "ReleaseStagesResult",
    "StartStages",
    "StartStagesResult",
    "TransitionRun",
    "TransitionRunResult",
    "WorkerFacts",
]
