"""``@plugin``: what is accepted, what it is told, and what is said of mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from tests.outbox.hearing import CHAIN, new_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import RunEvent, plugin
from workflow_engine.definitions.plugins import plugins_override, registered_plugins
from workflow_engine.errors import DuplicatePlugin, InvalidDefinition
from workflow_engine.event_types import EVENT_TYPES
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.kernel import events
from workflow_engine.kernel.commands import FlushOutbox
from workflow_engine.models import DeadLetter, EventCursor, WorkflowAnnotation
from workflow_engine.sinks.collecting import CollectingEventSink


@pytest.fixture(autouse=True)
def no_plugins_after() -> Iterator[None]:
    with plugins_override():
        yield


def do_nothing(event: RunEvent) -> None:
    pass


def test_the_names_of_events_are_those_of_their_classes() -> None:
    def kinds(base: type) -> Iterator[str]:
        for kind in base.__subclasses__():
            if "type" in vars(kind):
                yield kind.type  # type: ignore[attr-defined]
            yield from kinds(kind)

    # A class with slots is made twice.
    assert set(kinds(events.Event)) == set(EVENT_TYPES)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (["run.completed"], {"run.completed"}),
        ("run.completed", {"run.completed"}),
        (["run.failed", "stage.failed"], {"run.failed", "stage.failed"}),
        (["run.*"], {name for name in EVENT_TYPES if name.startswith("run.")}),
        (["*"], set(EVENT_TYPES)),
    ],
)
def test_what_it_is_on(on: Any, expected: set[str]) -> None:
    plugin(on=on)(do_nothing)

    (made,) = registered_plugins()
    assert made.types == expected
    assert made.name == "tests.outbox.test_plugins.do_nothing"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"on": ["run.complete"]}, "on='run.complete' is no type of event. Did you mean 'run.completed'?"),
        ({"on": ["zzz"]}, "on='zzz' is no type of event. Types are: run.created, run.started"),
        ({"on": ["job.*"]}, "on='job.*' is no type of event."),
        ({"on": []}, "on=[] names no event, so it would never be called."),
        ({"on": [3]}, "on takes names, got 3."),
        ({"on": ["*"], "workflows": [None]}, "workflows takes names, got None."),
        ({"on": ["*"], "timeout": 0}, "timeout is in seconds and above 0, got 0."),
        ({"on": ["*"], "timeout": "1"}, "timeout is in seconds and above 0, got '1'."),
        ({"on": ["*"], "name": ""}, "The name of a plugin has 1 to 200 characters, got 0."),
        ({"on": ["*"], "name": "n" * 201}, "The name of a plugin has 1 to 200 characters, got 201."),
    ],
)
def test_mistakes_are_said_at_once(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidDefinition, match=re.escape(problem)):
        plugin(**given)(do_nothing)

    assert registered_plugins() == ()


def test_a_class_needs_a_method_for_events() -> None:
    with pytest.raises(InvalidDefinition, match=r"a plugin class needs a method handle\(self, event\)"):

        @plugin(on=["*"])
        class Deaf:
            pass


def test_two_plugins_have_two_names() -> None:
    plugin(on=["*"], name="one")(do_nothing)
    # The same one again is the module's second import.
    plugin(on=["run.*"], name="one")(do_nothing)

    with pytest.raises(DuplicatePlugin, match="A plugin 'one' is registered already"):
        plugin(on=["*"], name="one")(lambda event: None)

    assert len(registered_plugins()) == 1


@pytest.mark.django_db(transaction=True)
def test_functions_classes_and_coroutines_are_called(known: Any) -> None:
    heard: list[tuple[str, str]] = []
    known(CHAIN)

    @plugin(on=["run.created"])
    def function(event: RunEvent) -> None:
        heard.append(("function", event.type))

    @plugin(on=["run.*"], workflows=["chain"])
    class Instance:
        def __init__(self) -> None:
            heard.append(("made", ""))

        def handle(self, event: RunEvent) -> None:
            heard.append(("class", event.type))

    @plugin(on=["run.started"])
    async def coroutine(event: RunEvent) -> None:
        heard.append(("coroutine", event.type))

    @plugin(on=["*"], workflows=["other"])
    def never(event: RunEvent) -> None:
        heard.append(("never", event.type))

    new_run()
    process_available_jobs()
    get_kernel().dispatch(FlushOutbox())

    assert heard == [
        ("function", "run.created"),
        ("made", ""),
        ("class", "run.created"),
        ("class", "run.started"),
        ("class", "run.completed"),
        ("coroutine", "run.started"),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_plugin_uses_the_database_and_leaves_no_transaction_open(known: Any) -> None:
    known(CHAIN)

    @plugin(on=["run.created"])
    def writes(event: RunEvent) -> None:
        WorkflowAnnotation.objects.count()
        transaction.set_autocommit(False)
        WorkflowAnnotation.objects.count()

    new_run(), new_run()

    assert get_kernel().dispatch(FlushOutbox()).delivered == 2
    assert connection.get_autocommit()


@pytest.mark.django_db(transaction=True)
def test_a_plugin_that_takes_too_long_or_exits_is_a_failure_like_any_other(known: Any) -> None:
    import threading

    known(CHAIN)
    let_go = threading.Event()

    @plugin(on=["run.created"], timeout=0.05)
    def hangs(event: RunEvent) -> None:
        let_go.wait(30)

    @plugin(on=["run.created"])
    def exits(event: RunEvent) -> None:
        raise SystemExit(3)

    new_run()
    try:
        made = get_kernel().dispatch(FlushOutbox())
    finally:
        let_go.set()

    assert (made.delivered, made.failed) == (0, 2)
    errors = dict(EventCursor.objects.values_list("subscriber", "error"))
    assert [errors[name] for name in sorted(errors)] == [
        "RuntimeError: SystemExit: 3",
        f"DeliveryTimeout: {hangs.__module__}.{hangs.__qualname__} took longer than 0.05 s.",
    ]


SHARED = CollectingEventSink()


class OwnSink(CollectingEventSink):
    """One that the settings name by its class."""


class Unmakable:
    """A sink whose other side is away when it is made."""

    def __init__(self) -> None:
        raise ConnectionError("the warehouse is away")

    def emit(self, event: RunEvent) -> None:
        pass


@pytest.mark.django_db(transaction=True)
def test_sinks_are_named_by_the_settings(known: Any, settings: Any) -> None:
    known(CHAIN)
    here = "tests.outbox.test_plugins"
    settings.WORKFLOW_ENGINE = {
        **settings.WORKFLOW_ENGINE,
        "EVENT_SINKS": [f"{here}.SHARED", f"{here}.OwnSink"],
    }
    new_run()

    made = get_kernel().dispatch(FlushOutbox())

    assert made.delivered == 2
    assert SHARED.types == ["run.created"]
    assert [one.name for one in get_kernel().ports.subscribers.all()] == [f"{here}.SHARED", f"{here}.OwnSink"]
    assert not DeadLetter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_sink_that_cannot_be_made_keeps_no_run_from_being_created(known: Any, settings: Any) -> None:
    known(CHAIN)
    path = "tests.outbox.test_plugins.Unmakable"
    settings.WORKFLOW_ENGINE = {**settings.WORKFLOW_ENGINE, "EVENT_SINKS": [path]}

    new_run()
    made = get_kernel().dispatch(FlushOutbox())

    assert (made.delivered, made.failed) == (0, 1)
    assert EventCursor.objects.get().error == "ConnectionError: the warehouse is away"


@pytest.mark.django_db(transaction=True)
def test_of_two_subscribers_of_one_name_one_hears(known: Any, settings: Any) -> None:
    known(CHAIN)
    path = "tests.outbox.test_plugins.OwnSink"
    settings.WORKFLOW_ENGINE = {**settings.WORKFLOW_ENGINE, "EVENT_SINKS": [path, path]}
    new_run()

    assert get_kernel().dispatch(FlushOutbox()).delivered == 1
