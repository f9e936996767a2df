"""The form of a webhook: lists as lines of text, and the kernel's own words for what is wrong."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import InvalidInput
from workflow_engine.kernel.webhooks.fields import check_fields
from workflow_engine.models import WebhookEndpoint
from workflow_engine.models.webhooks import MOST_URL

FIELDS = ("url", "description", "events", "workflows")


class LinesField(forms.CharField):
    """A list of words, one per line; commas do too."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 40})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return str(value or "").replace(",", " ").split()

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(list(initial or []) != self.to_python(data))


class WebhookForm(forms.ModelForm):
    url = forms.CharField(
        label=_("URL"),
        max_length=MOST_URL,
        widget=forms.URLInput(attrs={"size": 80, "placeholder": "https://"}),
        help_text=_("Events are sent there by POST, signed. What is secret in it is seen by whoever may see webhooks."),
    )
    events = LinesField(
        label=_("Events"),
        required=False,
        help_text=_("Types of events, one per line, such as run.completed; run.* for all of a kind. Empty: all."),
    )
    workflows = LinesField(
        label=_("Workflows"), required=False, help_text=_("Ids of workflows, one per line. Empty: all.")
    )

    class Meta:
        model = WebhookEndpoint
        fields = (*FIELDS, "active")
        help_texts = {"active": _("Unchecked, it hears of nothing, and what it had still to hear of is dropped.")}
        widgets = {"description": forms.TextInput(attrs={"size": 80})}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        try:
            # What is missing or not even text is said by the fields themselves.
            check_fields(get_kernel().ports.limits.webhook_targets, {name: cleaned.get(name) for name in FIELDS})
        except InvalidInput as error:
            for problem in error.errors:
                text = problem.message[:1].upper() + problem.message[1:]
                self.add_error(problem.path, text if text.endswith((".", "?")) else f"{text}.")
        return cleaned
