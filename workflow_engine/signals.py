"""Django signals about runs: sent after the commit, in the process that made it, best effort.

Receivers are called with ``send_robust`` in the middle of the engine's work, so they should be short; what they raise
is logged. A process that dies between the commit and the call sends nothing: what must not be missed belongs into a
plugin (``workflow_engine.plugin``). The sender is ``WorkflowRun``.
"""

from django.dispatch import Signal

# run_id, workflow_id
run_started = Signal()
# run_id, workflow_id, status: COMPLETED, FAILED or CANCELLED
run_finished = Signal()
# run_id, workflow_id, stage_id, status: COMPLETED, FAILED, SKIPPED or CANCELLED; item_index: of a map's item, or None
stage_finished = Signal()
