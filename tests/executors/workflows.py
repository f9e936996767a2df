"""What Django imports in child processes; tests register the bodies for themselves."""

from tests.executors.bodies import WORKFLOWS
from workflow_engine.definitions import register

for workflow in WORKFLOWS.values():
    register(workflow)
