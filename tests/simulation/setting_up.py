"""Django, before anything of the engine is imported; also in processes that are started for schedules."""

from __future__ import annotations

import os


def set_up() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
