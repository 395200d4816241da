"""Money is a whole number of nano-dollars, in the database and in Python.

An int cannot lose a digit, adds up in `F()` expressions on every database, and one token at $0.10 per
million is exactly 100. `Decimal` dollars appear only where people read or type them: see `dollars` and
`nano`. The reasons are in docs/decisions/0001-money.md.
"""

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, InvalidOperation

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

NANO = 10**9
SMALLEST_SPOKEN = Decimal("0.000001")
LEAST_ROUGH = Decimal("0.001")
LARGEST = 9_000_000_000  # dollars; BIGINT ends a little above


def dollars(nano: int) -> Decimal:
    """Nano-dollars as exact dollars."""
    return Decimal(nano) / NANO


def nano(dollars: Decimal | str | int) -> int:
    """Dollars as nano-dollars, rounded up. Raises ValueError for a float or for what is not an amount."""
    if isinstance(dollars, float):
        raise ValueError("Money is never a float.")
    try:
        amount = Decimal(dollars)
        if abs(amount) > LARGEST:
            raise ValueError(f"{dollars} is more dollars than the ledger can hold.")
        return int((amount * NANO).to_integral_value(ROUND_CEILING))
    except InvalidOperation as error:
        raise ValueError(f"{dollars!r} is not an amount of dollars.") from error


def spoken(nano: int, rounding: str = ROUND_HALF_UP) -> str:
    """An amount as people read it: cents from one dollar on, else as many digits as say something.

    Rounded half up for reading only, and up where it is a promise; every sum is made from the exact figures.
    """
    sign, amount = ("−" if nano < 0 else ""), abs(dollars(nano))
    if amount == 0:
        return "$0.00"
    if amount < SMALLEST_SPOKEN:
        return f"{sign}<${SMALLEST_SPOKEN}"
    digits = 2 if amount >= 1 else 3 if amount >= Decimal("0.01") else 4 if amount >= Decimal("0.0001") else 6
    rounded = amount.quantize(Decimal(1).scaleb(-digits), rounding)
    words = f"{sign}${rounded:,f}"
    return words.removesuffix("0") if digits == 3 else words


def rough(nano: int, rounding: str = ROUND_HALF_UP) -> str:
    """An amount that is only expected, in as few digits as are worth reading: cents from a tenth of a dollar on."""
    amount = dollars(nano)
    digits = 2 if amount >= Decimal("0.1") else 3
    return f"${max(amount.quantize(Decimal(1).scaleb(-digits), rounding), LEAST_ROUGH):,f}"


class DollarsFormField(forms.DecimalField):
    """Takes dollars from a person, gives nano-dollars to the model."""

    def __init__(self, **kwargs):
        for unknown in ("max_value", "min_value"):
            kwargs.pop(unknown, None)
        super().__init__(max_digits=19, decimal_places=9, **kwargs)

    def prepare_value(self, value):
        return format(dollars(value).normalize(), "f") if isinstance(value, int) else value

    def clean(self, value):
        amount = super().clean(value)
        if amount is None:
            return None
        try:
            return nano(amount)
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def has_changed(self, initial, data):
        try:
            return initial != self.clean(data)
        except ValidationError:
            return True


class MoneyField(models.BigIntegerField):
    """A BIGINT of nano-dollars; forms show and take dollars."""

    def formfield(self, **kwargs):
        return models.Field.formfield(self, **{"form_class": DollarsFormField, **kwargs})
