"""What the engine can do: one file per command. Importing this package enters every handler."""

from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.finished import Finished, Outcome
from workflow_engine.kernel.ports import WorkerFacts

from .annotate import Annotate, AnnotateResult
from .answer_stage import AnswerStage, AnswerStageResult
from .base import HANDLERS, Command
from .beat import Beat, BeatResult
from .cancel_run import CancelRun, CancelRunResult
from .claim_pending_runs import ClaimPendingRuns, ClaimPendingRunsResult
from .create_run import CreateRun, CreateRunResult
from .expire_runs import ExpireRuns, ExpireRunsResult
from .finish_checks import FinishChecks, FinishChecksResult
from .finish_stages import FinishStages, FinishStagesResult
from .pause_run import PauseRun, PauseRunResult
from .pause_work import PauseWork, PauseWorkResult
from .poll_suspended_stages import PollSuspendedStages, PollSuspendedStagesResult
from .reap_stale_leases import ReapStaleLeases, ReapStaleLeasesResult
from .reap_stuck_runs import ReapStuckRuns, ReapStuckRunsResult
from .reap_unknown import ReapUnknown, ReapUnknownResult
from .release_stages import ReleaseStages, ReleaseStagesResult
from .remember import Remember, RememberResult
from .rerun_from import RerunFrom, RerunFromResult
from .resume_run import ResumeRun, ResumeRunResult
from .resume_work import ResumeWork, ResumeWorkResult
from .start_stages import StartStages, StartStagesResult
from .transition_run import TransitionRun, TransitionRunResult
from .wake_suspended_stages import WakeSuspendedStages, WakeSuspendedStagesResult

__all__ = [
    "HANDLERS",
    "Annotate",
    "AnnotateResult",
    "AnswerStage",
    "AnswerStageResult",
    "Beat",
    "BeatResult",
    "CancelRun",
    "CancelRunResult",
    "CheckOutcome",
    "ClaimPendingRuns",
    "ClaimPendingRunsResult",
    "ClaimedCheck",
    "Command",
    "CreateRun",
    "CreateRunResult",
    "ExpireRuns",
    "ExpireRunsResult",
    "FinishChecks",
    "FinishChecksResult",
    "FinishStages",
    "FinishStagesResult",
    "Finished",
    "Outcome",
    "PauseRun",
    "PauseRunResult",
    "PauseWork",
    "PauseWorkResult",
    "PollSuspendedStages",
    "PollSuspendedStagesResult",
    "ReapStaleLeases",
    "ReapStaleLeasesResult",
    "ReapStuckRuns",
    "ReapStuckRunsResult",
    "ReapUnknown",
    "ReapUnknownResult",
    "ReleaseStages",
    "ReleaseStagesResult",
    "Remember",
    "RememberResult",
    "RerunFrom",
    "RerunFromResult",
    "ResumeRun",
    "ResumeRunResult",
    "ResumeWork",
    "ResumeWorkResult",
    "StartStages",
    "StartStagesResult",
    "TransitionRun",
    "TransitionRunResult",
    "WakeSuspendedStages",
    "WakeSuspendedStagesResult",
    "WorkerFacts",
]
