"""Settings of the measured project: database, Redis and transport come from the environment."""

import os
from pathlib import Path

from tests.backends.databases import postgresql

DATABASE = os.environ["WFE_BENCH_DATABASE"]
REDIS = os.environ.get("WFE_BENCH_REDIS", "")
SCRATCH = Path(os.environ["WFE_BENCH_SCRATCH"])

QUEUES = ("workflows", "others")

SECRET_KEY = "only-for-benchmarks"
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.benchmarks.urls"
STATIC_URL = "static/"
if DATABASE.startswith("postgresql:"):
    # As durable as the server is: the tests' own option would switch that off. Prepared, as docs/operations.md advises.
    DATABASES = {
        "default": {
            **postgresql(DATABASE),
            "OPTIONS": {"server_side_binding": True, "prepare_threshold": 5},
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL;",
            },
        }
    }
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "workflow_engine",
    "tests.benchmarks.app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": SCRATCH / "blobs"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WORKFLOW_ENGINE = {"TRANSPORT": os.environ["WFE_BENCH_TRANSPORT"]}
if REDIS:
    INSTALLED_APPS.append("django_rq")
    RQ_QUEUES = {name: {"URL": REDIS, "SERIALIZER": "json"} for name in QUEUES}
