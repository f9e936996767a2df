"""Every Python example compiles and imports public names only; those under ``<!-- run -->`` run."""

from __future__ import annotations

import ast
import importlib
import io
import sys
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail

from tests.docs.pages import PAGES, ROOT, Snippet, snippets
from tests.invariants import check_all
from workflow_engine import answer_stage
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.definitions.schedules import schedules_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.one_database

PYTHON = [snippet for page in PAGES for snippet in snippets(page) if snippet.language == "python"]
RUN = sorted({snippet.page for snippet in PYTHON if snippet.is_run})
# Where examples may import from. A module with ``__all__`` gives those names, another every name without "_".
PUBLIC = {
    "workflow_engine",
    "workflow_engine.bootstrap",
    "workflow_engine.errors",
    "workflow_engine.signals",
    "workflow_engine.kernel",
    "workflow_engine.kernel.commands",
    "workflow_engine.kernel.events",
    "workflow_engine.kernel.points",
    "workflow_engine.models",
    "workflow_engine.statuses",
    "workflow_engine.testing",
    "workflow_engine.testing.invariants",
    "workflow_engine.testing.simulation",
}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_an_example_compiles_and_imports_public_names_only(snippet: Snippet) -> None:
    tree = ast.parse(snippet.text, str(snippet))

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not any(item.name.startswith("workflow_engine") for item in node.names), "import its names instead"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workflow_engine":
            _check_import(node)


def _check_import(node: ast.ImportFrom) -> None:
    module = importlib.import_module(node.module or "")
    for item in node.names:
        nested = f"{node.module}.{item.name}"
        assert node.module in PUBLIC, f"{node.module} is not public"
        assert hasattr(module, item.name), f"{nested} does not exist"
        exported = getattr(module, "__all__", None)
        if nested not in PUBLIC:
            assert item.name in exported if exported else not item.name.startswith("_"), f"{nested} is not public"


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Return what the examples of one page share; modules and workflows that they define are gone afterwards."""
    before = set(sys.modules)
    with registry_override(), schedules_override():
        yield {"__name__": "example"}
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "is_example", False):
            del sys.modules[name]


def run_page(page: Path, namespace: dict[str, Any]) -> None:
    for snippet in snippets(page):
        if snippet.is_run and snippet.language == "python":
            run_snippet(snippet, namespace)


def run_snippet(snippet: Snippet, namespace: dict[str, Any]) -> None:
    # The lines of a traceback are those of the page.
    code = compile("\n" * (snippet.line - 1) + snippet.text, str(snippet.page), "exec")
    if snippet.module is not None:
        exec(code, _module(snippet.module).__dict__)
        return
    before = dict(namespace)
    exec(code, namespace)
    _run_tests({name: value for name, value in namespace.items() if before.get(name) is not value})


def _module(name: str) -> types.ModuleType:
    """Make the module and the packages it is in, as if the file of the example were there."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        module: Any = sys.modules.setdefault(path, types.ModuleType(path))
        module.is_example, module.__path__ = True, []
    return sys.modules[name]


def _run_tests(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name.startswith("test_"):
            value()
        elif isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == "example":
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            problems = [text for _, text in (*result.errors, *result.failures)]
            assert result.testsRun, f"{name} has no tests"
            assert not problems, "\n".join(problems)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", RUN, ids=page_id)
def test_the_examples_of_a_page_run(page: Path, namespace: dict[str, Any]) -> None:
    run_page(page, namespace)

    check_all()


@pytest.mark.django_db(transaction=True)
def test_the_workflow_of_the_readme_sends_one_mail(namespace: dict[str, Any]) -> None:
    run_page(ROOT / "README.md", namespace)
    services: Any = sys.modules["accounts.services"]

    services.sign_up("ada", "ada@example.org")
    InlineHost(get_kernel()).drain()

    run = WorkflowRun.objects.for_workflow("welcome").get()
    assert run.status == "COMPLETED"
    assert [message.to for message in mail.outbox] == [["ada@example.org"]]


@pytest.mark.django_db(transaction=True)
def test_the_workflow_of_the_tutorial_gives_what_the_tutorial_shows(
    namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_page(ROOT / "docs/tutorial.md", namespace)
    monkeypatch.setattr(sys.modules["books.workflows"].time, "sleep", lambda seconds: None)

    host = InlineHost(get_kernel())
    host.drain()
    run, order = (WorkflowRun.objects.for_workflow(workflow).get() for workflow in ("book-report", "book-order"))
    answer_stage(order, "ask-editor", {"verdict": "print", "by": "Ada"}, actor="ada")
    host.drain()

    order.refresh_from_db()
    assert run.get_output() == {"title": "Walden", "words": 5, "longest": "woods"}
    assert run.artifacts.get().name == "report.json"
    assert order.get_output() == "5 words printed"


@pytest.mark.django_db(transaction=True)
def test_the_client_of_the_http_page_starts_and_cancels_a_run(
    namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch, client: Any, admin_user: Any
) -> None:
    run_page(ROOT / "docs/how-to/http-api.md", namespace)
    run_page(ROOT / "docs/how-to/start-a-run.md", namespace)
    module: Any = sys.modules["anywhere.client"]
    client.force_login(admin_user)
    monkeypatch.setattr(module, "urlopen", lambda request: _answer(client, request))
    workflows = module.Workflows("http://testserver/workflows/", "token")

    run_id = workflows.start("checkout", {"user_id": 1, "amount": 2}, key="one")
    again = workflows.start("checkout", {"user_id": 1, "amount": 2}, key="one")

    assert run_id == again
    assert workflows.cancel(run_id, reason="never mind") is True
    assert workflows.wait(run_id)["status"] == "CANCELLED"


def _answer(client: Any, request: Any) -> io.BytesIO:
    """Answer a request of ``urllib`` by Django's test client, which is signed in by its session."""
    headers = {name: value for name, value in request.header_items() if name == "Idempotency-key"}
    if request.data is None:
        response = client.get(request.selector, headers=headers)
    else:
        response = client.post(request.selector, request.data, content_type="application/json", headers=headers)
    assert response.status_code < 300, response.content
    return io.BytesIO(response.content)
