"""Settings of the soaked project: servers and directories come from the environment; leases are short."""

import json
import os
from pathlib import Path

from tests.backends.databases import mariadb, postgresql, sqlite

BACKEND = os.environ["WFE_SOAK_BACKEND"]
DATABASE = os.environ["WFE_SOAK_DATABASE"]
SCRATCH = Path(os.environ["WFE_SOAK_SCRATCH"])

SECRET_KEY = "only-for-tests"
USE_TZ = True
TIME_ZONE = "UTC"
if BACKEND == "postgresql":
    # Without the tests' own option: a commit that was answered must survive the restart of the server.
    DATABASES = {"default": {**postgresql(DATABASE), "OPTIONS": {}, "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 60}}
elif BACKEND == "mariadb":
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
    DATABASES = {"default": {**mariadb(DATABASE), "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 60}}
else:
    DATABASES = {"default": {**sqlite(SCRATCH), "NAME": str(SCRATCH / "soak.sqlite3")}}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django_rq",
    "workflow_engine",
    "tests.soak",
    *(["tests.soak.chaos"] if "WFE_SOAK_CHAOS" in os.environ else []),
]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": SCRATCH / "blobs"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
RQ_QUEUES = {
    name: {"URL": os.environ["WFE_SOAK_REDIS"], "SERIALIZER": "json"} for name in ("default", "workflows", "long")
}
WORKFLOW_ENGINE = {
    "TRANSPORT": "rq",
    "LEASE_SECONDS": 6,
    "BEAT_SECONDS": 2,
    "GRACE_SECONDS": 10,
    # It is us who kill the workers here, not the bodies, and one may be hit several times.
    "MAX_CRASHES": int(os.environ.get("WFE_SOAK_MAX_CRASHES", "1000")),
    **json.loads(os.environ.get("WFE_SOAK_CHAOS", "{}")),
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "workflow_engine": {"handlers": ["console"], "level": "INFO"},
        # It tells of transactions that are repeated.
        "workflow_engine.kernel.unit_of_work": {"level": "DEBUG"},
    },
}
