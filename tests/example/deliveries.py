"""Files for the nightly import."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from example_project.bookshop.delivery import COLUMNS, SAMPLE

IMPORTED, REJECTED = 155, 5
TITLES = {"English": 33, "French": 31, "German": 31, "Italian": 20, "Portuguese": 18, "Spanish": 22}
GOOD = "Ulysses,James Joyce,1922,English,18.00,2"
# What the sample says, and what it should have said.
MENDED = {
    "I Malavoglia,Giovanni Verga,1881,Italian,7.95,two": "I Malavoglia,Giovanni Verga,1881,Italian,7.95,2",
    "Demian,Hermann Hesse,,German,11.90,6": "Demian,Hermann Hesse,1919,German,11.90,6",
    "Os Maias,Eça de Queirós,1888,,11.90,3": "Os Maias,Eça de Queirós,1888,Portuguese,11.90,3",
    "Dracula,Bram Stoker,1897,English,ask,5": "Dracula,Bram Stoker,1897,English,12.00,5",
    "Candide,Voltaire,1759,French,16,90,3": "Candide,Voltaire,1759,French,16.90,3",
}


def sample_in(folder: Path) -> Path:
    """Return a copy of the sample that may be changed."""
    return Path(shutil.copyfile(SAMPLE, folder / "delivery.csv"))


def delivery_of(folder: Path, *lines: str) -> Path:
    file = folder / "small.csv"
    file.write_text("\n".join([",".join(COLUMNS), *lines, ""]), encoding="utf-8")
    return file


def mend(file: Path, wrong: Iterable[str] = tuple(MENDED)) -> None:
    text = file.read_text(encoding="utf-8")
    for line in wrong:
        assert line in text
        text = text.replace(line, MENDED[line])
    file.write_text(text, encoding="utf-8")
