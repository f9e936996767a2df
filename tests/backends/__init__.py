"""Find or start the databases of this machine and run the whole suite once on each: ``python -m tests.backends``."""
