"""The workflow `document-analysis`.

    extract-text ──┬── detect-language ────┬── write-report
                   ├── score-readability ──┤
                   └── find-key-phrases ───┘

The engine stores every stage's output, so a crash or a failed stage costs that stage alone, never the work before it.
"""

from collections.abc import Iterator
from datetime import timedelta

from workflow_engine import NonRetryableError, Retry, StageContext, define_workflow, register, stage

from . import language, phrases, readability, report
from .extraction import kind_of, read_text
from .language import Language
from .readability import Readability
from .schemas import ExtractConfig, Findings, Report, Skipped, Source, Text, Texts
from .sources import NoDocuments, find_documents
from .unreadable import UnreadableDocument


class PracticeFailure(Exception):
    """Raised on purpose, as often as the config says; the retry that follows is the real one."""


@stage(
    "extract-text",
    description="Find the documents and read their text",
    # A disk that fails for a moment is worth another try; a broken document is not, and says so itself.
    retry=Retry(max_attempts=3, initial=timedelta(seconds=2)),
    timeout=timedelta(minutes=10),
)
def extract_text(ctx: StageContext[Source, ExtractConfig]) -> Texts:
    if ctx.attempt <= ctx.config.practice_failures:
        raise PracticeFailure(f"Practice failure {ctx.attempt} of {ctx.config.practice_failures}")
    try:
        found = find_documents(ctx.input.path)
    except NoDocuments as error:
        raise NonRetryableError(str(error)) from error
    limit = min(ctx.input.limit or ctx.config.max_documents, ctx.config.max_documents)
    texts = Texts(documents=[], left_out=max(0, len(found) - limit))
    if texts.left_out:
        ctx.log.warning("More documents than the limit", found=len(found), limit=limit)
    for number, document in enumerate(found[:limit], start=1):
        ctx.progress(100 * number / min(limit, len(found)), f"Reading {document.name}")
        try:
            text, truncated = read_text(document.path, max_characters=ctx.config.max_characters)
        except UnreadableDocument as error:
            if ctx.config.on_unreadable == "fail":
                raise NonRetryableError(f"Cannot read {document.name!r}: {error}.") from error
            ctx.log.warning("Skipped an unreadable document", document=document.name, reason=str(error))
            texts.skipped.append(Skipped(name=document.name, reason=str(error)))
        else:
            kind = kind_of(document.path)
            texts.documents.append(Text(name=document.name, kind=kind, text=text, truncated=truncated))
    ctx.log.info("Read the documents", documents=len(texts.documents), skipped=len(texts.skipped))
    ctx.metric("documents", len(texts.documents))
    ctx.metric("characters", sum(len(document.text) for document in texts.documents))
    return texts


@stage("detect-language", description="Tell which language each document is in", timeout=timedelta(minutes=5))
def detect_language(ctx: StageContext[Texts]) -> dict[str, Language]:
    return {text.name: language.detect(text.text) for text in _one_by_one(ctx)}


@stage("score-readability", description="Score how hard each document is to read", timeout=timedelta(minutes=5))
def score_readability(ctx: StageContext[Texts]) -> dict[str, Readability]:
    return {text.name: readability.score(text.text) for text in _one_by_one(ctx)}


@stage("find-key-phrases", description="Find what each document is about", timeout=timedelta(minutes=10))
def find_key_phrases(ctx: StageContext[Texts]) -> dict[str, list[str]]:
    # Its sibling detect-language runs at the same time: the answer is not there yet, and asking takes milliseconds.
    return {
        text.name: phrases.find_phrases(text.text, language=language.detect(text.text).code)
        for text in _one_by_one(ctx)
    }


@stage("write-report", description="Put everything into a page and a JSON file", timeout=timedelta(minutes=2))
def write_report(ctx: StageContext[Findings]) -> Report:
    texts = ctx.require(extract_text)
    content = report.build(texts, ctx.input, created_at=ctx.now())
    ctx.artifact("report.json", report.as_json(content), content_type="application/json")
    ctx.artifact("report.html", report.as_html(content), content_type="text/html")
    ctx.metric("words", content.words)
    ctx.log.info("Wrote the report", documents=len(content.documents), languages=len(content.languages))
    return Report(
        documents=len(content.documents),
        words=content.words,
        languages=content.languages,
        skipped=len(content.skipped),
        left_out=content.left_out,
        artifacts=["report.json", "report.html"],
    )


def _one_by_one(ctx: StageContext[Texts]) -> Iterator[Text]:
    """Go through the documents, showing the progress and stopping early if the run is cancelled."""
    for number, text in enumerate(ctx.input.documents):
        ctx.raise_if_cancelled()
        ctx.progress(100 * number / len(ctx.input.documents), text.name)
        yield text


document_analysis = register(
    define_workflow(
        "document-analysis",
        name="Document analysis",
        description="Languages, readability and key phrases of a folder of documents",
        input=Source,
        version="1",
    )
    .pipe(extract_text)
    .parallel(detect_language, score_readability, find_key_phrases)
    .pipe(write_report)
    .build()
)
