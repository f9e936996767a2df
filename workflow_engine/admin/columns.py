"""What cells of tables show: chips, bars, links, ages and JSON. Everything is escaped by ``format_html``."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from workflow_engine.conf import get_setting
from workflow_engine.graphs.durations import spell
from workflow_engine.models.maps import ItemResult, read_page
from workflow_engine.models.payloads import Envelope
from workflow_engine.models.suspended import error_text
from workflow_engine.redaction import redact
from workflow_engine.statuses import StageStatus

LONGEST_JSON = 50_000
# Of the results of a map, so many are shown, each cut to so many characters.
SHOWN_ITEMS, LONGEST_ITEM = 5, 2_000
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


def moment(when: datetime | None) -> str:
    """Return date and time as Django's admin writes them; a dash for none."""
    return MISSING if when is None else date_format(localtime(when) if is_aware(when) else when, "DATETIME_FORMAT")


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
    """Return the JSON of a stored value; of one in the blob store only size and key: it is not loaded.

    Of the results of a map: how many there are, and the first few.
    """
    envelope = Envelope(data)
    if envelope.data is None:
        return MISSING
    if envelope.items is not None:
        return _items_text(envelope.items)
    if envelope.blob_key is None:
        return pretty(envelope.open())
    return _("%(size)d bytes in the blob store, under the key %(key)s") % {
        "size": envelope.size or 0,
        "key": envelope.blob_key,
    }


def _items_text(reference: dict[str, Any]) -> str:
    facts = {"count": f"{reference['count']:,}", "failed": f"{reference['failed']:,}"}
    text = ngettext("%(count)s item", "%(count)s items", reference["count"]) % facts
    if reference["failed"]:
        text += _(", %(failed)s of them without an output") % facts
    results = read_page(reference, get_setting("DATABASE"), 0, SHOWN_ITEMS)
    lines = [text, "", *(f"#{result.index}  {_result_text(result)}" for result in results)]
    if (more := reference["count"] - len(results)) > 0:
        lines.append(_("… and %(count)s more") % {"count": f"{more:,}"})
    return "\n".join(lines)


def _result_text(result: ItemResult) -> str:
    if result.status != StageStatus.COMPLETED:
        return error_text(dict(result.error or {"code": result.status}))
    envelope = Envelope(result.output)
    if envelope.data is None or envelope.blob_key is not None:
        return envelope_text(result.output)
    return cut(json.dumps(redact(envelope.open()), ensure_ascii=False), LONGEST_ITEM)
