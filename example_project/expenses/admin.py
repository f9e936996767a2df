from typing import Any

from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workflow_engine.models import WorkflowRun

from .models import BankTransfer, Expense
from .workflows import submit


@admin.register(Expense)
class ExpenseAdmin(admin.ModelAdmin):
    """Adding an expense starts its run, in the same transaction; what follows is up to the workflow."""

    list_display = ("id", "owner", "amount", "status", "pay_at", "runs")
    list_filter = ("status",)
    fields = ("owner", "amount", "receipt", "pay_at")
    view_fields = ("status", "paid_out", "reference", "links")

    def get_fields(self, request: HttpRequest, obj: Expense | None = None) -> Any:
        return self.fields if obj is None else (*self.fields, *self.view_fields)

    def get_readonly_fields(self, request: HttpRequest, obj: Expense | None = None) -> Any:
        return () if obj is None else (*self.fields, *self.view_fields)

    def has_change_permission(self, request: HttpRequest, obj: Expense | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Expense | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Expense, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        submit(obj, source="admin")

    @admin.display(description="runs")
    def runs(self, expense: Expense) -> SafeString:
        """Link to the list of the expense's runs; this asks the database nothing."""
        of = f"subject_type={ContentType.objects.get_for_model(Expense).pk}&subject_id={expense.pk}"
        return format_html('<a href="{}?{}">Runs</a>', reverse("admin:workflow_engine_workflowrun_changelist"), of)

    @admin.display(description="runs")
    def links(self, expense: Expense) -> SafeString:
        runs = WorkflowRun.objects.for_subject(expense).order_by("-created_at")
        page = "admin:workflow_engine_workflowrun_change"
        links = ((reverse(page, args=[run.pk]), str(run.pk), run.get_status_display()) for run in runs)
        return format_html_join(", ", '<a href="{}">{}</a> {}', links)


@admin.register(BankTransfer)
class BankTransferAdmin(admin.ModelAdmin):
    """Look into the books of the pretend bank."""

    list_display = ("id", "payee", "cents", "questions")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: BankTransfer | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: BankTransfer | None = None) -> bool:
        return False
