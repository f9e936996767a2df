"""What mypy must refuse: each snippet is checked by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_database

ROOT = Path(__file__).parents[2]
HEAD = """
from pydantic import BaseModel
from workflow_engine import StageContext, stage, define_workflow
class A(BaseModel):
    a: int
class Config(BaseModel):
    c: int = 1
"""
REFUSED = {
    "an input field that does not exist": (
        "@stage('s')\ndef s(ctx: StageContext[A]) -> int:\n    return ctx.input.b\n",
        '"A" has no attribute "b"',
    ),
    "a config field that does not exist": (
        "@stage('s')\ndef s(ctx: StageContext[A, Config]) -> int:\n    return ctx.config.d\n",
        '"Config" has no attribute "d"',
    ),
    "config of a stage that takes none": (
        "@stage('s')\ndef s(ctx: StageContext[A]) -> int:\n    return ctx.config.c\n",
        '"None" has no attribute "c"',
    ),
    "an output of another type": (
        "@stage('s')\ndef s(ctx: StageContext[A]) -> int:\n    return 'x'\n",
        "Incompatible return value type",
    ),
    "the required output taken for another type": (
        "@stage('s')\ndef s(ctx: StageContext[A]) -> int:\n    return 1\n"
        "@stage('t')\ndef t(ctx: StageContext[A]) -> str:\n    return ctx.require(s)\n",
        "Incompatible return value type",
    ),
    "a value of another type than its key's": (
        "from workflow_engine import Decision\n"
        "@stage('s')\ndef s(ctx: StageContext[A]) -> None:\n    ctx.annotate(Decision.CONFIDENCE, 'high')\n",
        'Cannot infer value of type parameter "Value" of "annotate"',
    ),
    "the result of a sub-step taken for another type": (
        "def count() -> int:\n    return 1\n"
        "@stage('s')\ndef s(ctx: StageContext[A]) -> str:\n    return ctx.once('count', count)\n",
        "Incompatible return value type",
    ),
}


@pytest.mark.slow
def test_mypy_refuses_wrong_use_of_the_context(tmp_path: Path, backend: str) -> None:
    if backend != "sqlite":
        # The types do not depend on the database: once is enough.
        assert REFUSED
        return
    pytest.importorskip("mypy")
    files = []
    for number, (body, _) in enumerate(REFUSED.values()):
        files.append(tmp_path / f"snippet_{number}.py")
        files[-1].write_text(HEAD + body)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "setup.cfg"), *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    for number, (what, (_, words)) in enumerate(REFUSED.items()):
        lines = [line for line in done.stdout.splitlines() if f"snippet_{number}.py" in line and "error" in line]
        assert any(words in line for line in lines), f"{what} was not refused: {done.stdout}{done.stderr}"
