"""The form of an awaited answer, made of the type that its ``Wait`` declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from pydantic.errors import PydanticUserError

from workflow_engine.definitions import Wait
from workflow_engine.errors import FieldError

from .answer_fields import OMITTED, field_of

# Of the only field, where the answer is no object with fields.
WHOLE = "answer"


class AnswerForm(forms.Form):
    """Fields for what the answer's JSON Schema lists; ``answer`` is the JSON that was typed in, once valid."""

    use_required_attribute = False

    def __init__(self, wait: Wait[Any], *, id: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, prefix="answer", auto_id=f"id_{id}_%s", label_suffix="")
        schema = _schema(wait)
        self.is_whole = not _has_fields(schema)
        self.is_nothing = schema.get("type") == "null"
        definitions = schema.get("$defs", {})
        if self.is_nothing:
            return
        if self.is_whole:
            self.fields[WHOLE] = field_of(WHOLE, {"title": _("Answer"), **schema}, definitions, required=True)
            return
        needed = schema.get("required", ())
        for name, item in schema["properties"].items():
            self.fields[name] = field_of(name, item, definitions, required=name in needed)

    @property
    def answer(self) -> Any:
        given = {name: value for name, value in self.cleaned_data.items() if value is not OMITTED}
        return given.get(WHOLE) if self.is_whole else given

    def refuse(self, errors: Sequence[FieldError]) -> None:
        """Show what is wrong with the answer next to the fields."""
        for error in errors:
            name, _dot, rest = error.path.partition(".")
            if self.is_whole:
                name, rest = WHOLE, error.path
            if name in self.fields:
                self.add_error(name, f"{rest}: {error.message}" if rest else error.message)
            else:
                self.add_error(None, str(error))


def _has_fields(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" and bool(schema.get("properties"))


def _schema(wait: Wait[Any]) -> Mapping[str, Any]:
    try:
        schema = wait.data.json_schema()
    except PydanticUserError:
        # Some types can be read and written, but not described.
        return {}
    if "$ref" in schema:
        # Models that contain themselves.
        return {**schema.get("$defs", {}).get(schema["$ref"].rsplit("/", 1)[-1], {}), "$defs": schema.get("$defs", {})}
    return schema
