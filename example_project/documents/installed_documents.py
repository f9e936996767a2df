"""Gather real documents that every machine with this project has: what Python and the installed packages say."""

import re
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
READMES, LICENCES = 20, 14
SHORTEST = 400
SUFFIX = {"text/markdown": ".md", "text/x-rst": ".rst"}
LICENCE = re.compile(r"(licen[cs]e|copying)[^/]*", re.IGNORECASE)


def gather(folder: Path) -> int:
    """Fill `folder`, emptied first, with about 40 documents of all kinds; return how many."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Almost all that packages bring along is English; the samples are other languages, and a PDF.
    for document in (*sorted(SAMPLES.iterdir()), *_documents_of_python()):
        shutil.copyfile(document, folder / document.name)
    packages = sorted(distributions(), key=lambda package: package.name.lower())
    for name, text in (*_spread(_readmes(packages), READMES), *_spread(_licences(packages), LICENCES)):
        (folder / name).write_text(text, encoding="utf-8")
    return sum(1 for _ in folder.iterdir())


def _spread(documents: Iterator[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Take some from the whole alphabet, not only from its beginning."""
    every = list(documents)
    return every[:: max(1, -(-len(every) // count))]


def _documents_of_python() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    return [path for path in (library / "LICENSE.txt", library / "idlelib" / "help.html") if path.is_file()]


def _readmes(packages: list[Distribution]) -> Iterator[tuple[str, str]]:
    for package in packages:
        metadata = package.metadata.json
        text = str(metadata.get("description", ""))
        if len(text) >= SHORTEST:
            content_type = str(metadata.get("description_content_type", "")).partition(";")[0]
            yield f"{package.name}-readme{SUFFIX.get(content_type, '.txt')}", text


def _licences(packages: list[Distribution]) -> Iterator[tuple[str, str]]:
    seen = set()
    for package in packages:
        for file in package.files or ():
            path = Path(str(file.locate()))
            if LICENCE.fullmatch(path.stem) and path.suffix in {"", ".txt", ".md"} and path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                if len(text) >= SHORTEST and text not in seen:
                    seen.add(text)
                    yield f"{package.name}-licence.txt", text
                    break
