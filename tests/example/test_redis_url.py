from __future__ import annotations

import runpy
from typing import Any

import pytest

from example_project.documents.workflows import document_analysis
from workflow_engine.checks import check_rq
from workflow_engine.conf import transport_name
from workflow_engine.testing import registry_override


def example_settings(monkeypatch: pytest.MonkeyPatch, *, redis_url: str) -> dict[str, Any]:
    monkeypatch.setenv("DJANGO_SECRET_KEY", "of this test")
    monkeypatch.setenv("REDIS_URL", redis_url)
    return runpy.run_module("example_project.settings")


def test_without_a_redis_nothing_of_rq_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    found = example_settings(monkeypatch, redis_url="")

    assert "django_rq" not in found["INSTALLED_APPS"]
    assert "RQ_QUEUES" not in found


def test_a_redis_url_makes_the_example_ring_over_rq(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    found = example_settings(monkeypatch, redis_url="redis://cache.example.org:6379/3")

    settings.WORKFLOW_ENGINE, settings.RQ_QUEUES = found["WORKFLOW_ENGINE"], found["RQ_QUEUES"]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_rq"]
    assert "django_rq" in found["INSTALLED_APPS"]
    assert transport_name() == "rq"
    with registry_override(document_analysis):
        assert check_rq(None) == []
