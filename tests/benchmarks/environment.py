"""The peers' own Python environment, made once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "bench-venv"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"


class CannotInstall(Exception):
    """The peers are not measured; the message says why."""


def peers_python(say: Callable[[str], None]) -> str:
    """Return the interpreter that has the peers, installing them first if needed. Raises ``CannotInstall``."""
    stamp = PLACE / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    python = PLACE / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted and python.exists()):
        say(f"Installing the peers into {PLACE.relative_to(ROOT)} (once)")
        run([sys.executable, "-m", "venv", str(PLACE)])
        run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
        stamp.write_text(wanted)
    return str(python)


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CannotInstall(lines[-1] if lines else f"{command[0]} failed")
