"""The form of a schedule: what is wrong stands at the field that is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import ExtraMissing, InvalidInput
from workflow_engine.kernel.schedules.checking import CHANGEABLE, check_schedule
from workflow_engine.models import Schedule


class _InputField(forms.JSONField):
    """Refuses numbers and nestings beyond Python's limits, which Django's field takes for a fault of the server."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (ValueError, RecursionError) as error:
            problem = self.error_messages["invalid"]
            raise forms.ValidationError(problem, code="invalid", params={"value": value}) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        text = super().prepare_value(value)
        # Half of a surrogate pair is shown as it was typed, since no page can hold it.
        return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


class ScheduleForm(forms.ModelForm):
    """Checks with the rules of the commands that save what it holds."""

    workflow = forms.ChoiceField(label=_("Workflow"))
    input = _InputField(label=_("Input"), required=False, help_text=_("JSON, as the workflow's input type takes it."))

    class Meta:
        model = Schedule
        fields = ("name", "workflow", "cron", "timezone", "input", "overlap", "catch_up", "enabled")
        help_texts = {
            "name": _("Lower-case words of letters and digits, joined by '-'."),
            "cron": _("Minute, hour, day of the month, month, day of the week: 30 2 * * MON-FRI"),
            "timezone": _("A name of the IANA database: Europe/Berlin"),
            "overlap": _("What to do at a time at which a run of this schedule has not ended."),
            "catch_up": _("What to do about times at which no worker was there."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = get_kernel().ports.known_workflows()
        chosen = self.instance.workflow
        if chosen and chosen not in known:
            known = [*known, chosen]
        if "workflow" in self.fields:
            self.fields["workflow"] = forms.ChoiceField(
                label=_("Workflow"), choices=[("", "---------"), *((one, one) for one in known)]
            )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        before = {name: getattr(self.instance, name) for name in CHANGEABLE}
        values = {**before, **cleaned}
        changed = frozenset(CHANGEABLE) if self.instance._state.adding else frozenset(self.changed_data)
        try:
            check_schedule(get_kernel().ports, values, changed=changed)
        except InvalidInput as error:
            for item in error.errors:
                name, _dot, rest = item.path.partition(".")
                text = f"{rest}: {item.message}" if rest else item.message
                self.add_error(name if name in self.fields else None, text)
        except ExtraMissing as error:
            self.add_error("cron", str(error))
        return cleaned
