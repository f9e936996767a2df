"""The HTTP API: ``path("workflows/", include("workflow_engine.api.urls"))``. Needs Django REST framework.

Everything is set on the view classes, so the project's ``REST_FRAMEWORK`` setting is neither needed nor changed.
"""
