"""Processes that make runs go on: the worker, its orchestration tick, and waiting for one run."""
