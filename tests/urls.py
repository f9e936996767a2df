"""URLs of the test project."""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if find_spec("workflow_engine.api") and find_spec("workflow_engine.api.urls"):
    urlpatterns.append(path("workflows/", include("workflow_engine.api.urls")))
