"""The reference says what the code says."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

import workflow_engine
from tests.docs.pages import DOCS, ROOT, codes, headings, rows
from workflow_engine import StageContext, conf, errors, models, testing
from workflow_engine.event_types import EVENT_TYPES
from workflow_engine.kernel import commands, events, points
from workflow_engine.kernel.doctor import CODES

pytestmark = pytest.mark.one_database

T = TypeVar("T")
REFERENCE = DOCS / "reference"
COMMANDS = sorted(path.stem for path in (ROOT / "workflow_engine/management/commands").glob("wfe_*.py"))


def first_codes(page: Path, **table: Any) -> list[str]:
    return [codes(row[0])[0] for row in rows(page, **table) if codes(row[0])]


def subclasses(kind: type[T]) -> Iterator[type[T]]:
    for item in kind.__subclasses__():
        yield item
        yield from subclasses(item)


def test_the_settings_page_lists_every_setting_with_its_default() -> None:
    found = {
        codes(row[0])[0]: ast.literal_eval(codes(row[1])[0]) for row in rows(REFERENCE / "settings.md", header="Key")
    }

    assert found == conf.DEFAULTS
    assert list(found) == list(conf.DEFAULTS)


def test_a_setting_is_called_reserved_exactly_if_nothing_reads_it() -> None:
    sources = [path for path in (ROOT / "workflow_engine").rglob("*.py") if path.name != "conf.py"]
    code = "\n".join(path.read_text() for path in sources) + 'get_setting("TRANSPORT")'
    read = set(re.findall(r'(?:get_setting|setting)\("([A-Z_]+)"', code))
    reserved = {
        codes(row[0])[0] for row in rows(REFERENCE / "settings.md", header="Key") if row[2].startswith("Reserved")
    }

    assert reserved == set(conf.DEFAULTS) - read


def test_the_events_page_lists_every_event_with_its_fields() -> None:
    found = {codes(row[0])[0]: codes(row[2]) for row in rows(REFERENCE / "events.md", header="Type")}
    known = {
        kind.type: [field.name for field in dataclasses.fields(kind)]
        for kind in subclasses(events.Event)
        if hasattr(kind, "type")
    }

    assert tuple(found) == EVENT_TYPES
    assert found == {name: known[name] for name in found}


def test_the_errors_page_lists_every_error_with_its_code() -> None:
    page = REFERENCE / "errors.md"
    base = errors.WorkflowEngineError
    public: list[type[errors.WorkflowEngineError]] = [base, *subclasses(base)]
    known = {
        kind.__name__: kind.code
        for kind in public
        if kind.__module__ == errors.__name__ and not kind.__name__.startswith("_")
    }

    found = {codes(row[1])[0]: codes(row[0])[0] for row in rows(page, header="Code") if len(row) == 4}
    assert found == known


def test_the_codes_of_stored_errors_are_those_in_the_code() -> None:
    stored = first_codes(REFERENCE / "errors.md", header="Code", section="Codes of stored errors")
    code = "\n".join(path.read_text() for path in (ROOT / "workflow_engine").rglob("*.py"))

    assert all(f'"{item}"' in code for item in stored)


def test_the_errors_page_lists_every_system_check() -> None:
    found = {item.removeprefix("workflow_engine.") for item in first_codes(REFERENCE / "errors.md", header="Id")}

    code = "\n".join(path.read_text() for path in (ROOT / "workflow_engine").rglob("checks.py"))
    assert found == set(re.findall(r'id="workflow_engine\.(\w+)"', code))


def test_the_crash_point_page_lists_every_point_in_order() -> None:
    assert tuple(first_codes(DOCS / "explanation/crash-points.md", header="Point")) == points.POINTS


def test_the_context_page_lists_every_public_attribute() -> None:
    page = REFERENCE / "context.md"
    found = {re.split(r"[( ]", name)[0] for name in first_codes(page, header="Name")}
    source = Path(import_module("workflow_engine.definitions.context").__file__ or "").read_text()
    own = set(re.findall(r"self\.([a-z]\w*) = ", source.split("class StageContext", 1)[1]))
    methods = {name for name in vars(StageContext) if not name.startswith("_")}

    assert found == own | methods


def test_the_running_page_lists_every_command_with_its_wire_name() -> None:
    found = {codes(row[0])[0]: codes(row[1])[0] for row in rows(REFERENCE / "running.md", header="Command")}

    assert found == {kind.__name__: kind.type for kind in commands.HANDLERS}


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))

    assert [name for name in workflow_engine.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_testing_page_lists_every_helper() -> None:
    found = {re.split(r"[( ]", name)[0] for name in first_codes(REFERENCE / "testing.md", header="Name")}

    assert found == set(testing.__all__)


def test_the_models_page_has_a_section_per_model_and_names_fields_that_exist() -> None:
    page = REFERENCE / "models.md"
    known = {name: getattr(models, name) for name in models.__all__ if hasattr(getattr(models, name), "_meta")}

    assert set(headings(page)) - {"Models"} == set(known)
    for name, model in known.items():
        fields = [field for row in rows(page, header="Field", section=name) for field in codes(row[0])]
        missing = [field for field in fields if not hasattr(model, field)]
        assert missing == [], name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_page_lists_options_and_exit_codes(name: str) -> None:
    page = REFERENCE / "commands.md"
    command: Any = load_command_class("workflow_engine", name)
    parser = command.create_parser("manage.py", name)
    plain = {
        option for action in BaseCommand().create_parser("manage.py", name)._actions for option in action.option_strings
    }
    options = {option for action in parser._actions for option in action.option_strings} - plain
    exit_codes = {int(row[0]): row[1].replace("`", "") for row in rows(page, header="Exit code", section=name)}

    assert {item.split()[0] for item in first_codes(page, header="Option", section=name)} == options
    assert exit_codes == command.exit_codes


def test_the_commands_page_has_no_other_commands() -> None:
    assert set(headings(REFERENCE / "commands.md")) - {"Commands"} == set(COMMANDS)


def test_the_http_page_lists_every_endpoint_with_its_permission() -> None:
    found = {}
    for row in rows(REFERENCE / "http.md", header="Method and path"):
        method, path = codes(row[0])[0].split()
        found[method, path] = codes(row[1])[0]
    known = {}
    for pattern in import_module("workflow_engine.api.urls").urlpatterns:
        path = re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        for method, permission in pattern.callback.view_class.needs.items():
            known[method.upper(), path] = permission.removeprefix("workflow_engine.")

    assert found == known


@pytest.mark.parametrize("severity", ["violation", "warning"])
def test_the_page_of_the_doctor_explains_every_code_as_the_doctor_does(severity: str) -> None:
    found = rows(DOCS / "how-to" / "doctor.md", header="Code", section=f"{severity.capitalize()}s")

    known = [[f"`{code}`", one.means, one.causes, one.fix] for code, one in CODES.items() if one.severity == severity]
    assert found == known
