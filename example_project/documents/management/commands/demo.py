import json
import logging
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from example_project.bookshop.walkthrough import walk_through as show_an_import
from example_project.documents.installed_documents import gather
from example_project.documents.workflows import document_analysis
from example_project.expenses.walkthrough import walk_through as show_an_expense
from example_project.paths import VAR_DIR
from workflow_engine.models import WorkflowRun

ADMIN_URL = "http://127.0.0.1:8000/admin/"


class Command(BaseCommand):
    help = (
        "Analyse some real documents, pay an expense, import books, watch the runs, and learn where to go from there."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", nargs="?", help="your own file, folder or pattern; default: documents found here")

    def handle(self, *, path: str | None, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        path = path or self._gather()
        self._say("Watch: the first attempt fails on purpose, and the engine tries again.\n")
        call_command("wfe_run", document_analysis.id, *_arguments(path, practice_failures=1), "--watch")
        run = WorkflowRun.objects.for_workflow(document_analysis).latest("created_at")
        self._say("\nThe report:")
        for file in _copy_artifacts(run, VAR_DIR / "report"):
            self._say(f"  {file}")
        with _workers_silent():
            show_an_expense(self._say)
            show_an_import(self._say, VAR_DIR / "import")
        self._explain(path, self._console_login())

    def _gather(self) -> str:
        folder = VAR_DIR / "documents"
        count = gather(folder)
        self._say(f"Gathered {count} documents that came with Python and its packages in {folder}")
        return str(folder)

    def _console_login(self) -> str:
        # A password everyone knows: never where DEBUG is off.
        if not settings.DEBUG:
            return f"make a user first: {_interpreter()} manage.py createsuperuser"
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", password="admin")  # noqa: S106
        return "user admin, password admin"

    def _explain(self, path: str, login: str) -> None:
        manage = f"{_interpreter()} manage.py"
        arguments = shlex.join(_arguments(path, practice_failures=2))
        self._say(
            f"\nThe console ({login}):\n"
            f"  {manage} runserver\n"
            f"  and open {ADMIN_URL}. With a worker running, add an expense of\n"
            "  more than 100.00 there, and answer on the page of its run.\n"
            "\nSee it survive a crash, in three terminals:\n"
            f"  1  {manage} wfe_worker\n"
            f"  2  {manage} wfe_run {document_analysis.id} {arguments} --watch --no-host\n"
            "  3  kill -9 the worker while the run waits for its retry or works, then start\n"
            "     another one like the first: the run goes on where it was."
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)


@contextmanager
def _workers_silent() -> Iterator[None]:
    """Leave the lines of a worker's start and end out; warnings are still shown."""
    logger = logging.getLogger("workflow_engine.hosts.worker")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _interpreter() -> str:
    """Return this Python as a reader would type it: relative where it lies below the working directory."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def _arguments(path: str, *, practice_failures: int) -> list[str]:
    config = {"extract-text": {"on_unreadable": "skip", "practice_failures": practice_failures}}
    return ["--input", json.dumps({"path": path}), "--config", json.dumps(config)]


def _copy_artifacts(run: WorkflowRun, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for artifact in run.artifacts.order_by("name"):
        file = folder / artifact.name
        file.write_bytes(artifact.read())
        files.append(file)
    return files
