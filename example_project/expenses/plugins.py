"""What hears of the runs of expenses, after they have committed: the owner gets a mail when a claim has ended."""

from django.core.mail import send_mail

from workflow_engine import RunEvent, plugin
from workflow_engine.models import WorkflowRun

from .models import Expense


@plugin(on=["run.completed", "run.failed"], workflows=["expense-claim"])
def tell_owner(event: RunEvent) -> None:
    """Send one mail per end. After a crash it may be sent twice: a mail has no token that would recognise it."""
    expense = WorkflowRun.objects.get(pk=event.run_id).subject
    if not isinstance(expense, Expense):
        return
    ended = expense.status if event.type == "run.completed" else f"refused: {event.payload['error']['message']}"
    send_mail(f"Your {expense.amount}: {ended}", "", None, [f"{expense.owner.lower()}@example.com"])
