"""Measure the engine beside other systems, on the same servers in the same run: ``python -m tests.benchmarks``."""
