"""A Django project with one workflow in it: `documents/workflows.py`."""
