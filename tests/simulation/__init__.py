"""Schedules in great number (``python -m tests.simulation``), with the engine as it is or broken on purpose."""
