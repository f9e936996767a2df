"""Ids of workflows, stages and waits."""

from __future__ import annotations

import re
from typing import Any

from workflow_engine.errors import InvalidDefinition, shown

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
MAX_ID_LENGTH = 100


def check_id(what: str, id: Any) -> None:
    """Raises ``InvalidDefinition`` for what is no id."""
    if not isinstance(id, str) or not _ID.match(id) or len(id) > MAX_ID_LENGTH:
        raise InvalidDefinition(
            f"{what} id {shown(id)}: an id is lower-case words of letters and digits joined by '-', "
            f"at most {MAX_ID_LENGTH} characters, such as 'extract-text'."
        )


def output_key(stage_id: str) -> str:
    """Return the name under which a group's mapping holds a stage's output: the id with ``-`` as ``_``."""
    return stage_id.replace("-", "_")
