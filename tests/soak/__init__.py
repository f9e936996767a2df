"""Workers are killed and servers restarted while runs go on, and nothing may be lost: ``python -m tests.soak``."""
