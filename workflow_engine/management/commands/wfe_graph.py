"""``manage.py wfe_graph``: draw a workflow, or list those there are."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from workflow_engine.definitions import Workflow, get_workflow, registered_workflows
from workflow_engine.graphs import as_data, as_mermaid, as_svg, as_text
from workflow_engine.management.command import COMPLETED, USAGE, EngineCommand, Refusal
from workflow_engine.management.printing import table

_DRAWINGS = {"text": as_text, "mermaid": as_mermaid, "svg": as_svg}


class Command(EngineCommand):
    help = "Draw a workflow as text, Mermaid or SVG. Without WORKFLOW: list the registered workflows."
    exit_codes = {COMPLETED: "drawn or listed", USAGE: "no such workflow, or the file cannot be written"}

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workflow", nargs="?", metavar="WORKFLOW", help="Id of the workflow.")
        parser.add_argument("--format", choices=sorted(_DRAWINGS), default="text", help="Default: text.")
        parser.add_argument("--output", metavar="FILE", help="Write to this file instead of the standard output.")

    def handle(self, *, workflow: str | None, format: str, output: str | None, as_json: bool, **options: Any) -> None:
        if workflow is None:
            self._print(_list_as_json() if as_json else _list(), output)
            return
        definition = get_workflow(workflow)
        self._print(json.dumps(as_data(definition)) if as_json else _DRAWINGS[format](definition), output)

    def _print(self, text: str, output: str | None) -> None:
        if output is None:
            self.say(text)
            return
        try:
            Path(output).write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"--output: the file {output!r} cannot be written: {reason}."
            raise Refusal(message, returncode=USAGE, code="USAGE") from error


def _list() -> str:
    known = registered_workflows()
    if not known:
        return "No workflow is registered. Put register(...) into the workflows.py of an installed app."
    rows = [(item.id, item.name, item.version, str(len(item.stage_ids)), item.description) for item in known]
    return "\n".join(table(("workflow", "name", "version", "stages", "description"), rows))


def _list_as_json() -> str:
    return json.dumps({"workflows": [_entry(item) for item in registered_workflows()]})


def _entry(workflow: Workflow[Any, Any]) -> dict[str, Any]:
    return {
        "workflow_id": workflow.id,
        "name": workflow.name,
        "description": workflow.description,
        "version": workflow.version,
        "stages": list(workflow.stage_ids),
    }
