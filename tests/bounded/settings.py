"""Settings of the project under constant load: what is kept for days elsewhere is kept for minutes."""

import os
from pathlib import Path

from tests.backends.databases import database_settings

SCRATCH = Path(os.environ["WFE_BOUNDED_SCRATCH"])
DAYS = float(os.environ["WFE_BOUNDED_MINUTES"]) / (24 * 60)

SECRET_KEY = "only-for-tests"
USE_TZ = True
TIME_ZONE = "UTC"
BACKEND = os.environ["WFE_BOUNDED_BACKEND"]
if BACKEND == "mariadb":
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
DATABASES = {"default": {**database_settings(BACKEND, os.environ["WFE_BOUNDED_DATABASE"], SCRATCH), "CONN_MAX_AGE": 60}}
if BACKEND == "sqlite":
    DATABASES["default"]["NAME"] = str(SCRATCH / "bounded.sqlite3")
INSTALLED_APPS = ["django.contrib.contenttypes", "workflow_engine", "tests.bounded"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": SCRATCH / "blobs"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WORKFLOW_ENGINE = {
    "TRANSPORT": "database",
    "WORKER_THREADS": 4,
    "MAX_EVENT_TRIES": 2,
    # Shorter than runs are kept: a run stays as long as its key.
    "IDEMPOTENCY_KEEP_DAYS": DAYS / 2,
    "RETENTION": {
        "runs": {"COMPLETED": DAYS, "CANCELLED": DAYS, "FAILED": DAYS * 1.25},
        "logs": DAYS / 2,
        "events": DAYS / 2,
        "workers": DAYS,
        "bulk": DAYS,
    },
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"workflow_engine": {"handlers": ["console"], "level": "INFO"}},
}
