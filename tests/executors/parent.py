"""A process with an executor of its own, to be killed: runs the attempt that its argument describes."""

from __future__ import annotations

import json
import sys

import django

if __name__ == "__main__":
    django.setup()

    from workflow_engine.bootstrap import get_kernel
    from workflow_engine.executors.held import Held
    from workflow_engine.executors.processes import ProcessExecutor
    from workflow_engine.executors.wire import started_from_json

    ProcessExecutor(get_kernel().ports).run(Held(started_from_json(json.loads(sys.argv[1]))))
