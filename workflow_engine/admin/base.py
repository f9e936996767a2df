"""Rows to look at, never to edit, in tables of any size."""

from __future__ import annotations

import uuid
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting

# Rows that one action changes.
MOST_AT_ONCE = 1_000


class CappedPaginator(Paginator):
    """Counts up to 10,000 rows: nobody turns to page 1,000, and counting millions takes seconds."""

    cap = 10_000

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by().values("pk")[: self.cap].count()


class ReadOnlyChangeList(ChangeList):
    """Keeps the order that an index serves, whatever the address asks for, and leaves large columns unread."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer(*self.model_admin.unread)  # type: ignore[attr-defined]

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        self.params.pop("o", None)
        return super().get_ordering(request, queryset)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows to users with Django's view permission; nobody adds, changes or deletes.

    ``search_fields`` are compared with an id that was typed in, exactly. ``unread`` are large columns that lists leave
    in the database. ``payload_fields`` are for holders of ``workflow_engine.view_payload`` only. ``linked_by`` are
    fields that are shown, and that an address may filter by although the list has no filter for them.
    """

    unread: tuple[str, ...] = ()
    payload_fields: tuple[str, ...] = ()
    linked_by: tuple[str, ...] = ()
    paginator = CappedPaginator
    change_form_template = "workflow_engine/admin/row.html"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    ordering: ClassVar[Any] = ("-pk",)
    sortable_by = ()
    list_select_related: ClassVar[Any] = False
    search_help_text = _("An exact id")

    class Media:
        css = {"all": ("workflow_engine/admin.css",)}

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow filters that the lists have: by others one could ask for the contents of columns that are not shown."""
        if lookup in self.linked_by:
            return True
        known: set[Any] = {getattr(item, "parameter_name", item) for item in self.list_filter}
        return lookup.partition("__")[0] in known and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(get_setting("DATABASE"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ReadOnlyChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django answers a forged action with a friendly page; a refusal should look like one.
        if request.method == "POST" and request.POST.get("action", "") not in self.get_actions(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            wanted = uuid.UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        matches = Q()
        for field in self.search_fields:
            matches |= Q(**{str(field): wanted})
        return queryset.filter(matches), False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields = tuple(super().get_fields(request, obj))
        return fields + self.payload_fields if may_see_payloads(request) else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.get_fields(request, obj)


def may_see_payloads(request: HttpRequest) -> bool:
    """Inputs, outputs and files are for users with ``workflow_engine.view_payload``."""
    return request.user.has_perm("workflow_engine.view_payload")


def now() -> datetime:
    """Return the time by which ages are shown."""
    return get_kernel().ports.clock.now()
