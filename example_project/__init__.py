"""A Django project with two workflows in it: `documents/workflows.py` and `expenses/workflows.py`."""
