"""A pretend bank. It takes an order at once and needs some time to execute it.

As in the test systems of real banks, the cents of an amount choose what happens: `.13` is refused, `.17` finds the line
down for the first two questions, `.19` for all. Everything else is executed when it is asked for the third time.
"""

from typing import Literal

from django.db.models import F

from .models import BankTransfer

REFUSED, DOWN_AT_FIRST, DOWN = 13, 17, 19
QUESTIONS = 3
State = Literal["under way", "executed", "refused"]


def order(*, key: str, payee: str, cents: int) -> str:
    """Order a transfer and return its number. The same key again is the same order: it is executed once."""
    transfer, _ = BankTransfer.objects.get_or_create(key=key, defaults={"payee": payee, "cents": cents})
    return f"T-{transfer.pk}"


def ask(number: str) -> State:
    """Return how far a transfer is. Raises ``ConnectionError`` while the line is down."""
    transfers = BankTransfer.objects.filter(pk=number.removeprefix("T-"))
    transfers.update(questions=F("questions") + 1)
    transfer = transfers.get()
    kind = transfer.cents % 100
    if kind == DOWN or (kind == DOWN_AT_FIRST and transfer.questions < QUESTIONS):
        raise ConnectionError("the line to the bank is down")
    if kind == REFUSED:
        return "refused"
    return "executed" if transfer.questions >= QUESTIONS else "under way"
