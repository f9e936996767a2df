"""Settings of the test project: one backend per process, SQLite unless the environment names another."""

import os
import tempfile
from pathlib import Path

from tests.backends.databases import database_settings, run_id

BACKEND = os.environ.get("WFE_TEST_BACKEND", "sqlite")
SCRATCH = Path(tempfile.gettempdir()) / f"wfe-tests-{run_id()}"

if BACKEND == "mariadb":
    import pymysql

    # Django asks for a mysqlclient of this version; PyMySQL speaks the same interface.
    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()

SECRET_KEY = "only-for-tests"
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DATABASES = {"default": database_settings(BACKEND, os.environ.get("WFE_TEST_DATABASE_URL", ""), SCRATCH)}
if name := os.environ.get("WFE_TEST_DATABASE_NAME"):
    # A process that a test starts works on the database of that test.
    DATABASES["default"]["NAME"] = name
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "workflow_engine",
    "example_project.expenses",
    "example_project.bookshop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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
    # Files, so that processes that a test starts share them.
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": SCRATCH / "blobs"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
WORKFLOW_ENGINE: dict[str, object] = {}
