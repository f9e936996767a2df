"""What the engine can do: one file per command. Importing this package enters every handler."""

from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.finished import Finished, Outcome
from workflow_engine.kernel.ports import WorkerFacts

from .annotate import Annotate, AnnotateResult
from .answer_stage import AnswerStage, AnswerStageResult
from .base import HANDLERS, Command
from .beat import Beat, BeatResult
from .cancel_bulk import CancelBulk, CancelBulkResult
from .cancel_run import CancelRun, CancelRunResult
from .cancel_scheduled import CancelScheduled, CancelScheduledResult
from .carry_out_bulk import CarryOutBulk, CarryOutBulkResult
from .change_schedule import ChangeSchedule, ChangeScheduleResult
from .change_webhook import ChangeWebhook, ChangeWebhookResult
from .claim_pending_runs import ClaimPendingRuns, ClaimPendingRunsResult
from .create_run import CreateRun, CreateRunResult
from .create_runs import CreateRuns, CreateRunsResult, OneOfRuns
from .create_schedule import CreateSchedule, CreateScheduleResult
from .create_webhook import CreateWebhook, CreateWebhookResult
from .delete_schedule import DeleteSchedule, DeleteScheduleResult
from .delete_webhook import DeleteWebhook, DeleteWebhookResult
from .deliver_notices import DeliverNotices, DeliverNoticesResult
from .disable_webhook import DisableWebhook, DisableWebhookResult
from .enable_webhook import EnableWebhook, EnableWebhookResult
from .expire_runs import ExpireRuns, ExpireRunsResult
from .finish_checks import FinishChecks, FinishChecksResult
from .finish_stages import FinishStages, FinishStagesResult
from .fire_schedules import FireSchedules, FireSchedulesResult
from .flush_outbox import FlushOutbox, FlushOutboxResult
from .give_places import GivePlaces, GivePlacesResult
from .pause_run import PauseRun, PauseRunResult
from .pause_work import PauseWork, PauseWorkResult
from .poll_suspended_stages import PollSuspendedStages, PollSuspendedStagesResult
from .prune import Prune, PruneResult
from .reap_stale_leases import ReapStaleLeases, ReapStaleLeasesResult
from .reap_stuck_runs import ReapStuckRuns, ReapStuckRunsResult
from .reap_unknown import ReapUnknown, ReapUnknownResult
from .release_stages import ReleaseStages, ReleaseStagesResult
from .remember import Remember, RememberResult
from .replay_dead_letters import ReplayDeadLetters, ReplayDeadLettersResult
from .report_dead_workers import ReportDeadWorkers, ReportDeadWorkersResult
from .rerun_from import RerunFrom, RerunFromResult
from .resume_run import ResumeRun, ResumeRunResult
from .resume_work import ResumeWork, ResumeWorkResult
from .rotate_webhook import RotateWebhook, RotateWebhookResult
from .run_schedule import RunSchedule, RunScheduleResult
from .schedule_command import ScheduleCommand, ScheduleCommandResult
from .send_webhook import SendWebhook, SendWebhookResult
from .start_bulk import StartBulk, StartBulkResult
from .start_stages import StartStages, StartStagesResult
from .sweep_webhooks import SweepWebhooks, SweepWebhooksResult
from .transition_run import TransitionRun, TransitionRunResult
from .try_webhook import TryWebhook, TryWebhookResult
from .wake_suspended_stages import WakeSuspendedStages, WakeSuspendedStagesResult

__all__ = [
    "HANDLERS",
    "Annotate",
    "AnnotateResult",
    "AnswerStage",
    "AnswerStageResult",
    "Beat",
    "BeatResult",
    "CancelBulk",
    "CancelBulkResult",
    "CancelRun",
    "CancelRunResult",
    "CancelScheduled",
    "CancelScheduledResult",
    "CarryOutBulk",
    "CarryOutBulkResult",
    "ChangeSchedule",
    "ChangeScheduleResult",
    "ChangeWebhook",
    "ChangeWebhookResult",
    "CheckOutcome",
    "ClaimPendingRuns",
    "ClaimPendingRunsResult",
    "ClaimedCheck",
    "Command",
    "CreateRun",
    "CreateRunResult",
    "CreateRuns",
    "CreateRunsResult",
    "CreateSchedule",
    "CreateScheduleResult",
    "CreateWebhook",
    "CreateWebhookResult",
    "DeleteSchedule",
    "DeleteScheduleResult",
    "DeleteWebhook",
    "DeleteWebhookResult",
    "DeliverNotices",
    "DeliverNoticesResult",
    "DisableWebhook",
    "DisableWebhookResult",
    "EnableWebhook",
    "EnableWebhookResult",
    "ExpireRuns",
    "ExpireRunsResult",
    "FinishChecks",
    "FinishChecksResult",
    "FinishStages",
    "FinishStagesResult",
    "Finished",
    "FireSchedules",
    "FireSchedulesResult",
    "FlushOutbox",
    "FlushOutboxResult",
    "GivePlaces",
    "GivePlacesResult",
    "OneOfRuns",
    "Outcome",
    "PauseRun",
    "PauseRunResult",
    "PauseWork",
    "PauseWorkResult",
    "PollSuspendedStages",
    "PollSuspendedStagesResult",
    "Prune",
    "PruneResult",
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
    "ReplayDeadLetters",
    "ReplayDeadLettersResult",
    "ReportDeadWorkers",
    "ReportDeadWorkersResult",
    "RerunFrom",
    "RerunFromResult",
    "ResumeRun",
    "ResumeRunResult",
    "ResumeWork",
    "ResumeWorkResult",
    "RotateWebhook",
    "RotateWebhookResult",
    "RunSchedule",
    "RunScheduleResult",
    "ScheduleCommand",
    "ScheduleCommandResult",
    "SendWebhook",
    "SendWebhookResult",
    "StartBulk",
    "StartBulkResult",
    "StartStages",
    "StartStagesResult",
    "SweepWebhooks",
    "SweepWebhooksResult",
    "TransitionRun",
    "TransitionRunResult",
    "TryWebhook",
    "TryWebhookResult",
    "WakeSuspendedStages",
    "WakeSuspendedStagesResult",
    "WorkerFacts",
]
