"""The workflow `expense-claim`; each run has an `Expense` as its subject.

    check ── approve ── pay ── book
             (large)   (if not rejected)

A run may take weeks. While it waits for the manager, the payment day or the bank, nothing of it is held: no thread, no
worker, no message; and whoever dies meanwhile, another worker goes on.
"""

from datetime import timedelta
from typing import Any

from django.db.models import F

from workflow_engine import (
    Approval,
    Completion,
    Decision,
    NonRetryableError,
    Output,
    Retry,
    StageContext,
    Trigger,
    Wait,
    create_run,
    define_workflow,
    register,
    stage,
)
from workflow_engine.models import WorkflowRun

from . import bank
from .models import Expense
from .schemas import BankConfig, Claim, Settled, Transfer, Verdict

LARGE_CENTS = 100_00
NO_ANSWER = Verdict(outcome="rejected", by="nobody", note="no manager answered in time")
MANAGER = Wait(
    "manager", Verdict, max_wait=timedelta(days=14), default=NO_ANSWER, description="Shall the company pay this?"
)


@stage("check", description="Compare the claim with its receipt", timeout=timedelta(seconds=30))
def check(ctx: StageContext[None]) -> Claim:
    expense: Expense | None = ctx.subject
    if expense is None:
        raise NonRetryableError("This run is about no expense. Start it with submit(expense).")
    total = expense.total_of_receipt
    if total != expense.amount:
        raise NonRetryableError(f"The receipt says {total}, the claim {expense.amount}.")
    return Claim(owner=expense.owner, cents=int(expense.amount * 100), pay_at=expense.pay_at)


@stage(
    "approve",
    description="Ask a manager, if the amount is large",
    when=Output(check).cents > LARGE_CENTS,
    waits=[MANAGER],
)
def approve(ctx: StageContext[Claim]) -> Verdict:
    # The first call ends the attempt. Once there is an answer the body runs again, and the call returns it.
    verdict = ctx.wait_for(MANAGER)
    ctx.annotate(Decision.OUTCOME, verdict.outcome)
    ctx.annotate(Decision.USED_FALLBACK, verdict == NO_ANSWER)
    ctx.annotate(Approval.APPROVERS, [verdict.by] if verdict.outcome == "approved" else [])
    return verdict


@stage(
    "pay",
    description="Wait for the payment day, and for the bank",
    # What a skipped stage would have said is None, so small claims are paid too.
    when=Output(approve).outcome != "rejected",
    timeout=timedelta(minutes=1),
    check_retry=Retry(max_attempts=5, initial=timedelta(seconds=1)),
)
def pay(ctx: StageContext[None, BankConfig]) -> Settled:
    claim = ctx.require(check)
    ctx.sleep_until(claim.pay_at, name="payment day")
    # The token is the same at every attempt: the bank recognises an order that it has already.
    number = bank.order(key=ctx.idempotency_token, payee=claim.owner, cents=claim.cents)
    ctx.suspend(
        Transfer(number=number),
        poll_every=timedelta(seconds=ctx.config.ask_every_seconds),
        max_wait=timedelta(days=3),
    )


@pay.check_completion(timeout=timedelta(seconds=20))
def paid(ctx: StageContext[None, BankConfig], state: Transfer) -> Completion[Settled]:
    """Ask the bank; a line that is down raises, and is tried again by `check_retry`."""
    match bank.ask(state.number):
        case "executed":
            return Completion.ready(Settled(status="paid", reference=state.number))
        case "refused":
            return Completion.failed("the bank refused the transfer")
    return Completion.pending()


@stage("book", description="Write down how it ended")
def book(ctx: StageContext[None]) -> Settled:
    settled = ctx.optional(pay) or Settled(status="rejected")
    expense = Expense.objects.filter(pk=ctx.subject.pk)
    written: dict[str, Any] = {"status": settled.status, "reference": settled.reference}
    if settled.status == "paid":
        written["paid_out"] = F("paid_out") + F("amount")
    # Called in the transaction that completes the stage. So it is written exactly once, whoever dies in between.
    ctx.on_complete(lambda: expense.update(**written))
    return settled


expense_claim = register(
    define_workflow(
        "expense-claim",
        name="Expense claim",
        description="Check an expense, have it approved, pay it, book it",
        version="1",
        timeout=timedelta(days=60),
    )
    .pipe(check)
    .pipe(approve)
    .pipe(pay)
    .pipe(book)
    .build()
)


def submit(expense: Expense, *, source: str) -> WorkflowRun:
    """Start the run of a saved expense. The same expense again gives the same run."""
    return create_run(
        expense_claim,
        subject=expense,
        annotations={Trigger.SOURCE: source},
        idempotency_key=f"expense-{expense.pk}",
        actor=expense.owner,
    )
