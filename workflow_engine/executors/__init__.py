"""Running one stage body: its context, its limits, its outcome."""
