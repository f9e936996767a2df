"""Django's entry to the engine."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class WorkflowEngineConfig(AppConfig):
    """Imports ``workflows.py`` and ``plugins.py`` of every installed app, as the admin does with ``admin.py``."""

    name = "workflow_engine"
    label = "workflow_engine"
    verbose_name = _("Workflow engine")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import bootstrap, checks

        _ = bootstrap, checks
        autodiscover_modules("workflows")
        autodiscover_modules("plugins")
