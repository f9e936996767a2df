"""Chaos: a seeded plan of faults against real processes under load, then a quiet end, and then all is checked."""
