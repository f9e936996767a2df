"""What goes into the two workflows, what one stage hands to the next, and what comes out."""

from decimal import Decimal

from pydantic import BaseModel, Field


class DeliveryFile(BaseModel):
    """Where the file is. Workers read with their own rights: let only people start runs who share them."""

    path: str = Field(min_length=1, description="A CSV file that every worker can read")


class Row(BaseModel):
    """A row as it stands in the file, right or wrong."""

    line: int
    cells: list[str]


class Delivery(BaseModel):
    path: str
    rows: list[Row]


class Entry(BaseModel):
    """A row that can be imported. The fields are the columns of the file; a rejected row is told their descriptions."""

    title: str = Field(min_length=1, max_length=200, description="a title of up to 200 letters")
    author: str = Field(min_length=1, max_length=100, description="a name of up to 100 letters")
    year: int = Field(ge=1, le=9999, description="a year such as 1897")
    language: str = Field(pattern="^[A-Z][a-z]{1,29}$", description="a language such as German")
    price: Decimal = Field(ge=0, max_digits=7, decimal_places=2, description="a price such as 9.90")
    copies: int = Field(ge=0, le=1_000_000, description="a number such as 3")


class Imported(BaseModel):
    """What is left of a row once its book is in the database."""

    language: str


class Shelf(BaseModel):
    """The books of one language; the input of `shelf-list`."""

    language: str = Field(min_length=1)


class Stock(BaseModel):
    language: str
    titles: int
    copies: int
    value: Decimal


class ShelfList(Stock):
    artifact: str
    """The name of the list among the files of the run that wrote it."""


class Summary(BaseModel):
    imported: int
    rejected: int
    titles: dict[str, int]
    """How many titles stand on the shelf of each language, those of earlier nights included."""
    value: Decimal
