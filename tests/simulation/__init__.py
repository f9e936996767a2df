"""Schedules in great number: ``python -m tests.simulation`` plays them, with the engine as it is or broken on purpose."""
