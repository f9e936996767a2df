"""Every way in which people and programs read a row: ORM, admin, API."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db import models
from django.test import Client
from django.urls import reverse


def reader() -> Client:
    """Return a client that may see everything, and that lets no error pass."""
    user, _ = User.objects.get_or_create(username="reader", is_staff=True, is_superuser=True)
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return client


def read_rows(client: Client, model: type[models.Model], *, most: int = 100, every: int = 1) -> int:
    """Read rows by ORM, in the admin's list and on their pages; return how many there are.

    ``every``: 1 reads the page of each row, 7 of each seventh, the newest first, and 0 of none.
    """
    rows = list(model._default_manager.order_by("-pk")[:most])
    for row in rows:
        str(row)
    if model in site._registry:
        name = f"admin:workflow_engine_{model._meta.model_name}"
        _ok(client, reverse(f"{name}_changelist"))
        for row in rows[::every] if every else ():
            _ok(client, reverse(f"{name}_change", args=[row.pk]))
    return len(rows)


def read_api(client: Client, name: str, **arguments: Any) -> Any:
    """Return what an address of the API answers, by its name."""
    return _ok(client, reverse(f"workflow_engine:{name}", kwargs=arguments)).json()


def read_run(client: Client, run_id: Any) -> None:
    """Read a run with all its parts from the API."""
    for name in ("run", "run-stages", "run-logs", "run-events", "run-attempts", "run-artifacts"):
        read_api(client, name, run_id=run_id)


def _ok(client: Client, address: str) -> Any:
    answer = client.get(address)
    assert answer.status_code == 200, f"{address}: {answer.status_code}"
    if answer["Content-Type"].startswith("text/html"):
        assert b"<script>alert" not in answer.content, f"{address} shows markup as it is"
    return answer
