"""Workflows whose runs are limited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine.definitions import Limit, Rate, Retry, StageContext, Workflow, define_workflow, stage


class Order(BaseModel):
    tenant: str | None = "acme"
    number: int = 0
    fails: bool = False


def limited(limit: Limit, id: str = "limited", **options: Any) -> Workflow[Order, Order]:
    """Return a workflow of two stages that end at once, or fail if they are told to."""

    @stage("load")
    def load(ctx: StageContext[Order]) -> Order:
        return ctx.input

    @stage("book", retry=Retry(max_attempts=1))
    def book(ctx: StageContext[Order]) -> Order:
        if ctx.input.fails:
            raise ValueError("told to fail")
        return ctx.input

    return define_workflow(id, input=Order, concurrency=limit, **options).pipe(load).pipe(book).build()


def by_tenant(most: int | None = 1, *, rate: Rate | None = None, **options: Any) -> Workflow[Order, Order]:
    return limited(Limit(most, key=lambda order: order.tenant, rate=rate), **options)


def per_minute(most: int) -> Rate:
    return Rate(most, per=timedelta(minutes=1))
