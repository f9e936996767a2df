"""Pages: newest first by cursor for runs, oldest first ``after`` an id for what is appended."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

LARGEST_ID = 2**63 - 1


class RunPages(CursorPagination):
    """Ids are ordered by time, so nothing is counted and nothing is skipped over."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    cursor_query_param = "cursor"

    def decode_cursor(self, request: Request) -> Any:
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                uuid.UUID(str(cursor.position))
            except ValueError:
                raise ParseError(_("The cursor is not one of ours.")) from None
        return cursor


class AfterPage:
    """Rows after a number, in order: ``?after=<number>&limit=<count>``. ``after`` of the answer continues it.

    ``start``: what ``after`` is at first; rows are numbered from the next on.
    """

    page_size = 200
    largest = 1000

    def __init__(self, request: Request, field: str, *, start: int = 0) -> None:
        self.request, self.field = request, field
        self.after = read_number(request, "after", default=start, least=start, most=LARGEST_ID)
        self.limit = read_number(request, "limit", default=self.page_size, most=self.largest)

    def rows_of(self, queryset: QuerySet[Any]) -> list[Any]:
        rows = queryset.filter(**{f"{self.field}__gt": self.after}).order_by(self.field)
        return list(rows[: self.limit + 1])

    def answer(self, rows: list[Any], serialize: Any) -> Response:
        """Return ``{"results", "after", "next"}``; ``next`` is null when there is no more for now."""
        shown = rows[: self.limit]
        after = getattr(shown[-1], self.field) if shown else self.after
        more = len(rows) > len(shown) and bool(shown)
        address = replace_query_param(self.request.build_absolute_uri(), "after", str(after)) if more else None
        return Response({"next": address, "after": after, "results": serialize(shown)})


def read_number(request: Request, name: str, *, default: int, most: int, least: int = 0) -> int:
    """Return a whole number of the query, ``least`` to ``most``. Raises ``ParseError``."""
    text = request.query_params.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20
    if not (is_number and least <= int(text) <= most):
        facts = {"name": name, "least": least, "most": most}
        raise ParseError(_("%(name)s must be a whole number from %(least)d to %(most)d.") % facts)
    return int(text)


def read_choices(request: Request, name: str, choices: Any) -> list[str]:
    """Return the values of a filter: given several times, or separated by commas. Raises ``ParseError``."""
    found = [item for text in request.query_params.getlist(name) for item in text.split(",") if item]
    if any(item not in choices for item in found):
        known = ", ".join(sorted(choices))
        raise ParseError(_("%(name)s must be one or several of: %(known)s.") % {"name": name, "known": known})
    return found
