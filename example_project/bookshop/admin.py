from django.contrib import admin
from django.http import HttpRequest

from .models import Book


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    """Look at what was imported; what is wrong is mended in the file, and imported again."""

    list_display = ("title", "author", "language", "year", "price", "copies", "imported_at")
    list_filter = ("language",)
    search_fields = ("title", "author")
    ordering = ("author", "title")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Book | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Book | None = None) -> bool:
        return False
