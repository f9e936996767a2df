"""Put what the stages found together: as data, and as one page that needs nothing else."""

from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from statistics import median

from django.template import Context, Engine
from pydantic import BaseModel

from .chart import draw
from .language import Language
from .readability import Readability
from .schemas import Findings, Skipped, Texts


class Row(BaseModel):
    name: str
    kind: str
    truncated: bool
    language: Language
    readability: Readability
    phrases: list[str]


class Content(BaseModel):
    created_at: datetime
    words: int
    minutes: float
    median_lix: float | None
    languages: dict[str, int]
    documents: list[Row]
    skipped: list[Skipped]
    left_out: int


def build(texts: Texts, findings: Findings, *, created_at: datetime) -> Content:
    """Join the findings by document; languages come with the most frequent first."""
    rows = [
        Row(
            name=text.name,
            kind=text.kind,
            truncated=text.truncated,
            language=findings.detect_language[text.name],
            readability=findings.score_readability[text.name],
            phrases=findings.find_key_phrases[text.name],
        )
        for text in texts.documents
    ]
    scores = [row.readability.lix for row in rows if row.readability.lix is not None]
    return Content(
        created_at=created_at,
        words=sum(row.readability.words for row in rows),
        minutes=round(sum(row.readability.minutes for row in rows), 1),
        median_lix=round(median(scores), 1) if scores else None,
        languages=dict(Counter(row.language.name for row in rows).most_common()),
        documents=rows,
        skipped=texts.skipped,
        left_out=texts.left_out,
    )


def as_json(content: Content) -> str:
    return content.model_dump_json(indent=2)


def as_html(content: Content) -> str:
    """Return a page without scripts, links or other files; it follows the reader's light or dark theme."""
    # The template gets strings only: how numbers look is decided here, not by the locale of whichever worker it is.
    return _template_engine().render_to_string(
        "report.html",
        Context(
            {
                "created": f"{content.created_at.day} {content.created_at:%B %Y, %H:%M %Z}",
                "tiles": _tiles(content),
                "chart": draw(content.documents, list(content.languages)),
                "rows": [_cells(row) for row in content.documents],
                "skipped": content.skipped,
                "left_out": _count(content.left_out, "document") if content.left_out else "",
            },
            use_l10n=False,
        ),
    )


def _tiles(content: Content) -> list[tuple[str, str]]:
    lix = content.median_lix
    return [
        (f"{len(content.documents):,}", "document" if len(content.documents) == 1 else "documents"),
        (f"{content.words:,}", "words"),
        (_duration(content.minutes), "to read"),
        (f"{len(content.languages)}", "language" if len(content.languages) == 1 else "languages"),
        ("\u2013" if lix is None else f"{lix:.1f}", "median LIX"),
    ]


def _cells(row: Row) -> dict[str, object]:
    lix = row.readability.lix
    return {
        "name": row.name,
        "kind": {"text": "Text", "markdown": "Markdown", "html": "HTML", "pdf": "PDF"}[row.kind],
        "language": row.language.name,
        "words": f"{row.readability.words:,}" + (" +" if row.truncated else ""),
        "truncated": row.truncated,
        "lix": "" if lix is None else f"{lix:.1f}",
        "level": row.readability.level or "not measured",
        # Of a scale that ends at 80: hardly anything is harder.
        "meter": f"{min(lix or 0, 80) / 80 * 48:.1f}",
        "phrases": row.phrases,
    }


def _duration(minutes: float) -> str:
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02} min" if hours else f"{rest} min"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@lru_cache(maxsize=1)
def _template_engine() -> Engine:
    # Its own engine, so that the page comes out the same whatever a project's TEMPLATES say. It escapes.
    return Engine(dirs=[str(Path(__file__).parent / "templates" / "documents")])
