"""``wfe_worker`` with a short day: its pass over what is old begins again after seconds."""

from __future__ import annotations

import os

import django


def main() -> None:
    django.setup()
    from django.core.management import call_command

    from workflow_engine.hosts import pruner

    pruner.DAY_SECONDS = float(os.environ["WFE_BOUNDED_DAY_SECONDS"])
    pruner.FIRST_SECONDS = (1.0, pruner.DAY_SECONDS)
    call_command("wfe_worker")


if __name__ == "__main__":
    main()
