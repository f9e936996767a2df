import re
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

TOTAL = re.compile(r"^\s*total\D*(\d+\.\d\d)\s*$", re.IGNORECASE | re.MULTILINE)


def next_payment_day() -> datetime:
    """Return noon of the coming Friday, today if it is one and noon is not over."""
    noon = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)
    days = (4 - noon.weekday()) % 7
    return noon + timedelta(days=days or (0 if timezone.now() < noon else 7))


class Expense(models.Model):
    """What somebody has paid for the company and wants back."""

    class Status(models.TextChoices):
        SUBMITTED = "submitted"
        REJECTED = "rejected"
        PAID = "paid"

    owner = models.CharField(max_length=100)
    amount = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    receipt = models.TextField(help_text="The text on the receipt, with a line such as “Total 42.00”")
    pay_at = models.DateTimeField(default=next_payment_day, verbose_name="payment day")
    # Only the workflow writes these.
    status = models.CharField(max_length=10, choices=Status, default=Status.SUBMITTED, editable=False)
    paid_out = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal(0), editable=False)
    reference = models.CharField(max_length=40, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.amount} for {self.owner}"

    @property
    def total_of_receipt(self) -> Decimal | None:
        """The total that the receipt shows, None if it shows none."""
        found = TOTAL.search(self.receipt)
        return Decimal(found.group(1)) if found else None


class BankTransfer(models.Model):
    """The books of the pretend bank in `bank.py`, which all processes share."""

    key = models.CharField(max_length=50, unique=True)
    payee = models.CharField(max_length=100)
    cents = models.PositiveIntegerField()
    questions = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.cents / 100:.2f} to {self.payee}"
