"""Settings for django-tasks-db: its database backend on PostgreSQL."""

import os
from urllib.parse import parse_qsl, unquote, urlsplit

URL = urlsplit(os.environ["BENCH_POSTGRES"])
SECRET_KEY = "only-for-benchmarks"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": URL.path.strip("/"),
        "HOST": dict(parse_qsl(URL.query)).get("host") or URL.hostname or "",
        "PORT": dict(parse_qsl(URL.query)).get("port") or str(URL.port or ""),
        "USER": unquote(URL.username or ""),
        "PASSWORD": unquote(URL.password or ""),
        # With Django's default its worker would connect anew for every task.
        "CONN_MAX_AGE": None,
    }
}
INSTALLED_APPS = ["django_tasks", "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}}
