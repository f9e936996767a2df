"""Where things lie, whatever the working directory is."""

from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"
"""What the project makes while it runs: stored files, reports, the secret key. Nothing serves it."""
