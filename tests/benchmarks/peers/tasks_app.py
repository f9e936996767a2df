"""The task that django-tasks-db runs."""

from __future__ import annotations

from typing import Any

from django_tasks import task


@task()
def step(value: Any) -> Any:
    return value
