"""The engine's commands for ``manage.py``, and what they share: parse, call, print."""
