"""Effects in plain tests: with a context for one body, and inside ``TestCase``."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.contrib.auth.models import Group
from django.test import TestCase

from tests.scenarios.test_effects import NOW, SHORT, names
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import InvalidDefinition, InvalidPayload
from workflow_engine.testing import run_workflow, stage_context


def test_a_context_for_one_body_keeps_and_calls_what_the_engine_would() -> None:
    calls: list[str] = []

    @stage("pays")
    def pays(ctx: StageContext[None]) -> str:
        charge = ctx.once("charge", lambda: calls.append("charged") or "ch-1")
        ctx.on_complete(lambda: calls.append("completed"))
        return charge

    ctx = stage_context(pays)

    assert [pays(ctx), pays(ctx)] == ["ch-1", "ch-1"]
    assert calls == ["charged"]
    ctx.desk.complete()
    assert calls == ["charged", "completed", "completed"]
    with pytest.raises(InvalidPayload, match="once 'bad'"):
        ctx.once("bad", lambda: float("nan"))
    with pytest.raises(InvalidDefinition):
        ctx.on_complete(cast(Any, "no function"))


class TestInsideTestCase(TestCase):
    """Where everything is in a transaction of the test's."""

    def test_a_run_with_every_kind_of_effect(self) -> None:
        @stage("book", atomic=True, timeout=SHORT, retry=NOW)
        def book(ctx: StageContext[None]) -> str:
            Group.objects.create(name=f"booked by attempt {ctx.attempt}")
            if ctx.attempt == 1:
                raise ConnectionError
            return "booked"

        @stage("pay", retry=NOW)
        def pay(ctx: StageContext[str]) -> int:
            paid_by = ctx.once("pay", lambda: ctx.attempt)
            ctx.on_complete(lambda: Group.objects.create(name=f"paid by attempt {paid_by}"))
            if ctx.attempt == 1:
                raise ConnectionError
            return paid_by

        result = run_workflow(define_workflow("w").pipe(book).pipe(pay).build())

        self.assertEqual((result.status, result.output), ("COMPLETED", 1))
        self.assertEqual(names(), ["booked by attempt 2", "paid by attempt 1"])

    def test_async_bodies_see_and_keep_what_the_test_has_written(self) -> None:
        @stage("pay", retry=NOW)
        async def pay(ctx: StageContext[None]) -> int:
            async def charge() -> int:
                return ctx.attempt

            paid_by = await ctx.aonce("pay", charge)
            await Group.objects.acreate(name=f"attempt {ctx.attempt}")
            if ctx.attempt == 1:
                raise ConnectionError
            return paid_by

        @stage("look")
        async def look(ctx: StageContext[None]) -> int:
            return await ctx.arequire(pay)

        result = run_workflow(define_workflow("w").pipe(pay).pipe(look).build())

        self.assertEqual((result.status, result.output), ("COMPLETED", 1))
        self.assertEqual(names(), ["attempt 1", "attempt 2"])
