from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from example_project.bookshop.delivery import SAMPLE
from example_project.bookshop.workflows import read_delivery, start_import


class Command(BaseCommand):
    help = "Start tonight's import of a file; workers do it. The same file again on the same day changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=SAMPLE, help="a CSV file; default: the sample")

    def handle(self, *, file: Path, **options: Any) -> None:
        # A run that failed for want of the file would be today's run all the same, and the file that comes be left out.
        if not file.is_file():
            raise CommandError(f"There is no file {str(file)!r}, seen from {str(Path.cwd())!r}. Nothing was started.")
        run = start_import(file, source="import_books")
        if run.was_created:
            self.stdout.write(f"Run {run.pk} imports {file}.")
            return
        self.stdout.write(f"Run {run.pk} of today is for {file} already, and is {run.status}. Nothing was started.")
        if run.status == "FAILED":
            self.stdout.write(f"To try again: manage.py wfe_rerun {run.pk} {read_delivery.id}")
