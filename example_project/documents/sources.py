"""Find the documents that a path means: one file, everything in a folder, or what a pattern matches."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from .extraction import is_document


class NoDocuments(Exception):
    """The path leads to no document; the message says why."""


@dataclass(frozen=True)
class Found:
    path: Path
    name: str
    """The path below the folder that was searched, with `/`; unique within one search."""


def find_documents(path: str) -> list[Found]:
    """Find the documents at `path`, sorted by name.

    A folder is searched to the bottom for names that look like documents, without hidden files. A single file and the
    matches of a pattern are taken as they are: who names a file means it.

    Raises:
        NoDocuments: nothing is there, or nothing in it is a document.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [Found(place, _printable(place.name))]
    if place.is_dir():
        found = _named(place, (file for file in place.rglob("*") if _is_wanted(file.relative_to(place))))
        return found or _nothing(f"The folder {path!r} holds no documents.")
    if has_magic(path):
        # Not Path.glob: there, before Python 3.13, a final ** finds no files, and * finds hidden ones.
        matches = (Path(match) for match in glob(str(place), recursive=True))  # noqa: PTH207
        return _named(_fixed_part(place), matches) or _nothing(f"No file matches {path!r}.")
    return _nothing(f"There is no file or folder {path!r}, seen from {str(Path.cwd())!r}.")


def _is_wanted(below: Path) -> bool:
    return is_document(below) and not any(part.startswith(".") for part in below.parts)


def _fixed_part(pattern: Path) -> Path:
    """Return the folders before the first wildcard: what all matches have in common."""
    return next(parent for parent in pattern.parents if not has_magic(str(parent)))


def _named(root: Path, files: Iterable[Path]) -> list[Found]:
    found = (Found(file, _printable(file.relative_to(root).as_posix())) for file in files if file.is_file())
    return sorted(found, key=lambda document: (document.name.casefold(), document.name))


def _printable(name: str) -> str:
    # A file name is bytes; those that are not UTF-8 would be lone surrogates, which no JSON can hold.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _nothing(why: str) -> list[Found]:
    raise NoDocuments(why)
