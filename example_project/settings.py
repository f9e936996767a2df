"""Settings of the example project. Every deployment choice is an environment variable:

`DJANGO_DEBUG` (1), `DJANGO_SECRET_KEY` (made and kept in `var/`), `DJANGO_ALLOWED_HOSTS` (this machine),
`DJANGO_LOG_LEVEL` (INFO), `WFE_DATABASE_URL` (the SQLite file `demo.sqlite3`) and `REDIS_URL` (none: workers poll).
"""

import os
from importlib.util import find_spec

from example_project.database import database_from_url, sqlite_database
from example_project.paths import BASE_DIR, VAR_DIR
from example_project.secret_key import load_or_create_secret_key

DEBUG = os.environ.get("DJANGO_DEBUG", "1").lower() in {"1", "true", "yes", "on"}
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or load_or_create_secret_key(VAR_DIR / "secret_key")
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "workflow_engine",
    "example_project.documents",
    "example_project.expenses",
    "example_project.bookshop",
]
if find_spec("rest_framework"):
    INSTALLED_APPS.append("rest_framework")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

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

DATABASES = {
    "default": (
        database_from_url(os.environ["WFE_DATABASE_URL"])
        if os.environ.get("WFE_DATABASE_URL")
        else sqlite_database(BASE_DIR / "demo.sqlite3")
    ),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Outputs and artifacts may hold what only some users may see: they leave through the admin and the API, which ask for
# permission, so no MEDIA_URL serves this folder.
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": VAR_DIR / "storage",
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "workflow_engine": {"handlers": ["console"], "level": os.environ.get("DJANGO_LOG_LEVEL", "INFO").upper()},
    },
}

# Runs that went well are deleted after a quarter, and files that no row refers to after two days.
WORKFLOW_ENGINE: dict[str, object] = {"RETENTION": {"runs": {"COMPLETED": 90}, "blobs": 2}}
if DEBUG:
    # Webhooks, to be made in the admin, may go to a receiver on this computer: http://localhost:9000/ say.
    WORKFLOW_ENGINE |= {"WEBHOOK_ALLOW_HTTP": True, "WEBHOOK_ALLOW_PRIVATE": True, "WEBHOOK_PORTS": []}

# Mails appear in the terminal of the worker.
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

# With django-rq installed as an app, new work rings over Redis; its pages are at admin/django_rq/dashboard/.
if REDIS_URL := os.environ.get("REDIS_URL"):
    INSTALLED_APPS.append("django_rq")
    # "workflows" is the queue of the stages; rqsuspend and rqresume look for Redis in "default".
    RQ_QUEUES = {name: {"URL": REDIS_URL, "SERIALIZER": "json"} for name in ("default", "workflows")}

if not DEBUG:
    CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    # Load balancers ask for health on the inner, unencrypted port.
    SECURE_REDIRECT_EXEMPT = [r"^workflows/health/"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
