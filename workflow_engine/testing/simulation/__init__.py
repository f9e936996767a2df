"""Deterministic simulation: many hosts in one thread, under a scheduler that a seed decides, with everything going
wrong."""

from .outcome import Outcome
from .plans import PLANS, Plan
from .settings import Settings, draw_settings
from .shrinking import Shrunk, shrink
from .simulating import simulate

__all__ = ["PLANS", "Outcome", "Plan", "Settings", "Shrunk", "draw_settings", "shrink", "simulate"]
