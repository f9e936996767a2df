"""Form fields made of JSON Schemas. Each gives the JSON value that was typed in; what it means, pydantic decides.

Fields are never required here: what is missing is left out, and the type of the answer says whether it may be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime
from django.utils.text import capfirst
from django.utils.translation import gettext as _

Schema = Mapping[str, Any]
SHORT_TEXT = 100


class Omitted:
    """Stands for a value that was left out."""


OMITTED = Omitted()


def field_of(name: str, schema: Schema, definitions: Schema, *, required: bool) -> forms.Field:
    """Return the form field of a property; one for JSON text where there is nothing better."""
    kind, nullable = _resolve(schema, definitions)
    make = _maker(kind)
    default = schema.get("default")
    is_text = make in (_text, _secret)
    field: Any = make(kind, blank=nullable or "default" not in schema or default is None)
    field.required = False
    field.label = str(schema.get("title") or capfirst(name.replace("_", " ")))
    field.help_text = str(schema.get("description") or kind.get("description") or "")
    field.empty = None if nullable else "" if is_text else OMITTED
    field.is_needed = required and not nullable
    if default is not None:
        field.initial = field.shown(default)
    return cast(forms.Field, field)


def _resolve(schema: Schema, definitions: Schema) -> tuple[Schema, bool]:
    """Return what the schema says without its references, and whether null is allowed."""
    for _round in range(10):
        if "$ref" in schema:
            schema = definitions.get(schema["$ref"].rsplit("/", 1)[-1], {})
        elif len(schema.get("allOf", ())) == 1:
            schema = schema["allOf"][0]
        else:
            break
    options = schema.get("anyOf", ())
    others = [option for option in options if option.get("type") != "null"]
    if not options or len(others) == len(options):
        return schema, False
    inner = others[0] if len(others) == 1 else {"anyOf": others}
    return _resolve(inner, definitions)[0], True


def _maker(schema: Schema) -> Callable[..., Any]:
    if "enum" in schema or "const" in schema:
        return _choice
    if _is_decimal(schema):
        return _decimal
    if schema.get("type") == "string":
        return _STRINGS.get(schema.get("format", ""), _text)
    makers: dict[Any, Callable[..., Any]] = {"integer": _integer, "number": _number, "boolean": _boolean}
    kind = schema.get("type")
    return makers.get(kind, _json) if isinstance(kind, str) else _json


def _is_decimal(schema: Schema) -> bool:
    """A ``Decimal`` is a number or text. It is sent as the text that was typed in, so nothing of it is rounded."""
    return {option.get("type") for option in schema.get("anyOf", ())} == {"number", "string"}


class _Given:
    """A field that gives JSON, or ``empty`` if nothing was typed in."""

    empty: Any = OMITTED

    def clean(self, value: Any) -> Any:
        cleaned = super().clean(value)  # type: ignore[misc]
        return self.empty if cleaned in (None, "") else self.as_json(cleaned)

    def as_json(self, value: Any) -> Any:
        return value

    def shown(self, default: Any) -> Any:
        """Return a default, which is JSON, as the field's initial value."""
        return default


class _Text(_Given, forms.CharField):
    def as_json(self, value: str) -> str:
        # Browsers send the line ends of a text area as CR LF.
        return value.replace("\r\n", "\n")


class _Integer(_Given, forms.IntegerField): ...


class _Number(_Given, forms.FloatField): ...


class _Date(_Given, forms.DateField):
    def as_json(self, value: Any) -> str:
        return str(value.isoformat())


class _Moment(_Given, forms.DateTimeField):
    def as_json(self, value: Any) -> str:
        return str(value.isoformat())

    def shown(self, default: Any) -> Any:
        return parse_datetime(str(default))


class _Choice(_Given, forms.ChoiceField):
    """A choice among JSON values, which are told apart by their position."""

    def __init__(self, values: list[tuple[Any, str]], *, blank: bool) -> None:
        self.values = [value for value, _label in values]
        choices = [(str(number), label) for number, (_value, label) in enumerate(values)]
        super().__init__(choices=[("", "---------"), *choices] if blank else choices)

    def as_json(self, value: str) -> Any:
        return self.values[int(value)]

    def shown(self, default: Any) -> str:
        return str(self.values.index(default)) if default in self.values else ""


class _Json(_Given, forms.CharField):
    def as_json(self, value: str) -> Any:
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValidationError(_("This is not JSON: %(error)s.") % {"error": error}) from error

    def shown(self, default: Any) -> str:
        return json.dumps(default, indent=2, ensure_ascii=False)


def _text(schema: Schema, *, blank: bool) -> _Text:
    is_short = schema.get("maxLength", SHORT_TEXT + 1) <= SHORT_TEXT or "format" in schema or "pattern" in schema
    widget = forms.TextInput({"class": "vTextField"}) if is_short else forms.Textarea({"rows": 2})
    return _Text(strip=False, widget=widget)


def _secret(schema: Schema, *, blank: bool) -> _Text:
    return _Text(strip=False, widget=forms.PasswordInput({"autocomplete": "off"}))


def _integer(schema: Schema, *, blank: bool) -> _Integer:
    return _Integer()


def _number(schema: Schema, *, blank: bool) -> _Number:
    return _Number(widget=forms.NumberInput({"step": "any"}))


def _decimal(schema: Schema, *, blank: bool) -> _Text:
    return _Text(widget=forms.TextInput({"inputmode": "decimal"}))


def _date(schema: Schema, *, blank: bool) -> _Date:
    return _Date(widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"), input_formats=["%Y-%m-%d"])


def _moment(schema: Schema, *, blank: bool) -> _Moment:
    return _Moment(widget=forms.DateTimeInput({"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"))


def _boolean(schema: Schema, *, blank: bool) -> _Choice:
    # Not a check box: one that is left alone could not be told from a "no".
    return _Choice([(True, _("Yes")), (False, _("No"))], blank=blank)


def _choice(schema: Schema, *, blank: bool) -> _Choice:
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    return _Choice([(value, value if isinstance(value, str) else json.dumps(value)) for value in values], blank=blank)


def _json(schema: Schema, *, blank: bool) -> _Json:
    return _Json(widget=forms.Textarea({"rows": 4, "class": "wfe-mono", "spellcheck": "false"}))


_STRINGS: dict[str, Callable[..., Any]] = {"date": _date, "date-time": _moment, "password": _secret}
