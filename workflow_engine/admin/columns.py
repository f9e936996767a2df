"""What cells of tables show: chips, bars, links, ages and JSON. Everything is escaped by ``format_html``."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from workflow_engine.graphs.durations import spell
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact

LONGEST_JSON = 50_000
MISSING = "-"


def chip(value: str, label: object = "") -> SafeString:
    """Return a coloured label; the colour is the class ``wfe-<value>`` of the style sheet."""
    return format_html('<span class="wfe-chip wfe-{}">{}</span>', value.lower(), label or value)


def bar(done: float, total: float, text: str) -> SafeString:
    """Return a small bar of progress with its text."""
    return format_html(
        '<span class="wfe-progress"><progress class="wfe-bar" value="{}" max="{}"></progress> {}</span>',
        min(done, total),
        max(total, 1),
        text,
    )


def short(value: uuid.UUID | None) -> str:
    """Return the last 8 digits of an id, the random ones: ids of one hour begin alike."""
    return f"…{str(value)[-8:]}" if value else MISSING


def run_link(run_id: uuid.UUID | None) -> SafeString | str:
    """Return a link to the page of a run."""
    if run_id is None:
        return MISSING
    url = reverse("admin:workflow_engine_workflowrun_change", args=[run_id])
    return format_html('<a class="wfe-id" href="{}" title="{}">{}</a>', url, run_id, short(run_id))


def span(start: datetime | None, end: datetime | None) -> str:
    """Return how long it took in words; a dash if it has not begun or ended."""
    return spell(end - start) if start and end else MISSING


def age(since: datetime, now: datetime) -> str:
    """Return how long ago it was, in its largest unit: ``8 min``."""
    return " ".join(spell(timedelta(seconds=int((now - since).total_seconds()))).split()[:2])


def cut(text: str, longest: int = 120) -> str:
    """Return the text on one line, cut at ``longest`` characters."""
    line = " ".join(text[: 4 * longest].split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def compact(value: Any) -> str:
    """Return JSON on one line, secrets masked; an empty text for nothing."""
    return "" if value is None or value == {} else cut(json.dumps(redact(value), ensure_ascii=False), 2_000)


def pretty(value: Any) -> str:
    """Return JSON on many lines, secrets masked, cut at 50,000 characters."""
    text = json.dumps(redact(value), indent=2, ensure_ascii=False)
    if len(text) <= LONGEST_JSON:
        return text
    return f"{text[:LONGEST_JSON]}\n" + _("… cut: %(size)d characters in all.") % {"size": len(text)}


def json_block(value: Any) -> SafeString | str:
    """Return JSON in a box of its own."""
    return MISSING if value is None else format_html('<pre class="wfe-json">{}</pre>', pretty(value))


def envelope_text(data: dict[str, Any] | None) -> str:
    """Return the JSON of a stored value; of one in the blob store only size and key: it is not loaded."""
    envelope = Envelope(data)
    if envelope.data is None:
        return MISSING
    if envelope.blob_key is None:
        return pretty(envelope.open())
    return _("%(size)d bytes in the blob store, under the key %(key)s") % {
        "size": envelope.size or 0,
        "key": envelope.blob_key,
    }
