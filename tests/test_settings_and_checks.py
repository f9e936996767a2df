from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from workflow_engine import StageContext, define_workflow, stage
from workflow_engine.conf import DEFAULTS, get_setting, problems
from workflow_engine.redaction import MASK, redact


def test_every_setting_has_a_default_and_the_project_overrides_it() -> None:
    assert get_setting("LEASE_SECONDS") == 30
    with override_settings(WORKFLOW_ENGINE={"LEASE_SECONDS": 60}):
        assert get_setting("LEASE_SECONDS") == 60
    with pytest.raises(KeyError):
        get_setting("NO_SUCH_SETTING")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LEASE_SECOND": 3}, "Did you mean 'LEASE_SECONDS'?"),
        ({"TRANPORT": "rq"}, "Did you mean 'TRANSPORT'?"),
        ({"LEASE_SECONDS": "30"}, "must be a number above 0, got '30'"),
        ({"WORKER_THREADS": 2.5}, "must be a whole number above 0, got 2.5"),
        ({"POLL_SECONDS": 0}, "must be a number above 0, got 0"),
        ({"GRACE_SECONDS": -1}, "must be a number of 0 or more, got -1"),
        ({"DATABASE": "other"}, "names no database: 'other'"),
        ({"BLOB_STORAGE": "s3"}, "names no storage: 's3'"),
        ({"QUEUES": ["a"]}, "must be a dict, got list"),
        ({"LEASE_SECONDS": 10, "BEAT_SECONDS": 9}, "must be at least twice BEAT_SECONDS"),
        ({"TRANSPORT": 3}, "must be a string"),
        ({"RETENTION": {"run": 3}}, "names something unknown: 'run'"),
        ({"RETENTION": {"logs": 0}}, "must have days above 0 or None for 'logs', got 0"),
        ({"RETENTION": {"runs": {"RUNNING": 3}}}, "names no status of runs that have ended: 'RUNNING'"),
        ({"RETENTION": {"runs": {"FAILED": "3"}}}, "must have days above 0 or None for 'runs', got '3'"),
        ({"RETENTION": 30}, "must be a dict, got int"),
        ({"PLUGINS": "shop.plugins.tell"}, "must be a list, got str"),
        ({"PLUGINS": ["no.such.plugin"]}, "['PLUGINS'] 'no.such.plugin': No module named 'no'"),
        ({"EVENT_SINKS": ["no.such.Sink"]}, "['EVENT_SINKS'] 'no.such.Sink': No module named 'no'"),
        ({"EVENT_SINKS": ["tests.faults.hearing.FileSink"] * 2}, "'tests.faults.hearing.FileSink' is there twice."),
        ({"EVENT_SINKS": ["datetime.datetime"]}, "it has no method emit(event)."),
        ({"WEBHOOK_TIMEOUT": 0}, "must be a number above 0, got 0"),
        ({"WEBHOOK_MAX_ATTEMPTS": 1.5}, "must be a whole number above 0, got 1.5"),
        ({"WEBHOOK_PORTS": 8443}, "must be a list, got int"),
        ({"WEBHOOK_PORTS": ["8443"]}, "must list ports of 1 to 65535, got ['8443']"),
        ({"WEBHOOK_PORTS": [0]}, "must list ports of 1 to 65535, got [0]"),
        ({"WEBHOOK_ALLOW_HTTP": "no"}, "must be a bool, got str"),
        (["LEASE_SECONDS"], "must be a dict, got list"),
        ({"TRANSPORT": "no.such.Transport"}, "no.such.Transport"),
    ],
)
def test_a_wrong_setting_is_a_check_error_with_the_fix(given: Any, words: str) -> None:
    with override_settings(WORKFLOW_ENGINE=given):
        found = [
            item
            for item in run_checks()
            if item.id in ("workflow_engine.E001", "workflow_engine.E002", "workflow_engine.E012")
        ]

    assert found
    assert any(words in f"{item.msg} {item.hint}" for item in found)
    assert all(item.hint for item in found)


def test_the_defaults_themselves_have_no_problem() -> None:
    with override_settings(WORKFLOW_ENGINE=DEFAULTS):
        assert problems() == []


def test_sqlite_without_immediate_transactions_is_an_error_that_prints_the_options(settings: Any) -> None:
    before = settings.DATABASES["default"]
    settings.DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": {}}
    try:
        found = {item.id: item for item in run_checks()}
    finally:
        settings.DATABASES["default"] = before

    assert '"transaction_mode": "IMMEDIATE"' in str(found["workflow_engine.E003"].hint)
    assert "workflow_engine.W001" in found


def test_secrets_are_masked_by_whole_words_of_their_key() -> None:
    given = {"password": 1, "apiKey": 2, "nested": [{"Access-Token": 3}], "total_tokens": 4, "passwords_seen": 5}

    assert redact(given) == {
        "password": MASK,
        "apiKey": MASK,
        "nested": [{"Access-Token": MASK}],
        "total_tokens": 4,
        "passwords_seen": 5,
    }


def test_a_database_that_stores_local_time_is_an_error(settings: Any) -> None:
    before = settings.DATABASES["default"]
    settings.DATABASES["default"] = {**before, "ENGINE": "django.db.backends.mysql", "TIME_ZONE": "Europe/Berlin"}
    try:
        found = {item.id: item for item in run_checks()}
    finally:
        settings.DATABASES["default"] = before

    assert "Europe/Berlin" in found["workflow_engine.E004"].msg


def test_an_atomic_stage_without_a_short_timeout_is_an_error_on_sqlite(known: Any, settings: Any) -> None:
    def write(ctx: StageContext[None]) -> None: ...

    bounds = {"endless": None, "long": timedelta(seconds=15), "short": timedelta(seconds=14)}
    stages = [stage(id, atomic=True, timeout=timeout)(write) for id, timeout in bounds.items()]
    plain, retired = stage("plain")(write), stage("retired", atomic=True)(write)
    known(define_workflow("w").parallel(*stages, plain).retired(retired).build())
    found: dict[str, list[Any]] = {}
    before = settings.DATABASES["default"]
    for kind in ("sqlite3", "postgresql"):
        settings.DATABASES["default"] = {**before, "ENGINE": f"django.db.backends.{kind}"}
        try:
            found[kind] = [item for item in run_checks() if item.id == "workflow_engine.E011"]
        finally:
            settings.DATABASES["default"] = before

    assert [item.msg.split(":")[0] for item in found["sqlite3"]] == [
        "Stage 'endless'",
        "Stage 'long'",
        "Stage 'retired'",
    ]
    assert found["sqlite3"][0].hint == "Write @stage('endless', atomic=True, timeout=timedelta(seconds=10))."
    assert found["postgresql"] == []


def test_webhooks_into_the_own_network_are_a_warning_before_a_deployment(settings: Any) -> None:
    def found() -> list[str]:
        return [item.msg for item in run_checks(include_deployment_checks=True) if item.id == "workflow_engine.W005"]

    assert found() == []
    settings.WORKFLOW_ENGINE = {"WEBHOOK_ALLOW_PRIVATE": True, "WEBHOOK_ALLOW_HTTP": True}

    assert [text.split(":")[0] for text in found()] == [
        "WORKFLOW_ENGINE['WEBHOOK_ALLOW_PRIVATE']",
        "WORKFLOW_ENGINE['WEBHOOK_ALLOW_HTTP']",
    ]
