"""Amounts: nano-dollars inside, dollars where people read or type."""

from decimal import Decimal

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from chat.money import LARGEST, NANO, DollarsFormField, MoneyField, dollars, nano, spoken
from tests.books import bounded

AMOUNTS = st.integers(-LARGEST * NANO, LARGEST * NANO)


@bounded
@given(amount=AMOUNTS)
def test_nano_dollars_survive_the_way_through_dollars(amount):
    assert nano(dollars(amount)) == amount


@bounded
@given(amount=st.decimals(-LARGEST, LARGEST, allow_nan=False, places=15))
def test_what_is_less_than_a_nano_dollar_is_rounded_up(amount):
    assert 0 <= nano(amount) - amount * NANO < 1


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("25", 25 * 10**9), ("0.50", 5 * 10**8), (0, 0), ("-1", -(10**9)), ("0.0000000001", 1), ("-0.0000000001", 0)],
)
def test_dollars_become_whole_nano_dollars(amount, expected):
    assert nano(amount) == expected


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        *((amount, "is not an amount of dollars") for amount in ("", "abc", "1,50", "$5", "NaN", "sNaN")),
        *((amount, "more dollars than the ledger can hold") for amount in ("Infinity", "-Infinity", 9_000_000_001)),
        ("1e400", "more dollars than"),
        *((amount, "Money is never a float") for amount in (0.5, float("nan"))),
    ],
)
def test_what_is_not_an_amount_is_refused_with_words(amount, words):
    with pytest.raises(ValueError, match=words):
        nano(amount)


def test_the_largest_amount_fits_into_a_bigint():
    assert nano(LARGEST) <= models.BigIntegerField.MAX_BIGINT


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "$0.00"),
        ("1", "$1.00"),
        ("1234567.891", "$1,234,567.89"),
        ("-2.5", "−$2.50"),
        ("0.5", "$0.50"),
        ("0.123", "$0.123"),
        ("0.9996", "$1.00"),
        ("0.0042", "$0.0042"),
        ("0.000012", "$0.000012"),
        # Where the digits change
        ("0.01", "$0.01"),
        ("0.0001", "$0.0001"),
        ("0.000001", "$0.000001"),
        ("0.000000999", "<$0.000001"),
    ],
)
def test_an_amount_is_read_with_the_digits_that_say_something(amount, words):
    assert spoken(nano(amount)) == words


@bounded
@given(amount=AMOUNTS)
def test_an_amount_and_its_opposite_read_the_same_but_for_the_sign(amount):
    assert spoken(-abs(amount)).lstrip("−") == spoken(abs(amount))


@pytest.mark.parametrize(("amount", "words"), [("1.005", "$1.01"), ("0.0625", "$0.063")])
def test_half_a_digit_is_rounded_up_for_reading(amount, words):
    assert spoken(nano(amount)) == words


def test_what_is_not_nothing_is_never_read_as_nothing():
    assert any(digit in spoken(400) for digit in "123456789")


class _Form(forms.Form):
    limit = DollarsFormField()


@pytest.mark.parametrize(("typed", "amount"), [("25", 25 * NANO), ("0.000000001", 1), ("19.99", 19_990_000_000)])
def test_people_type_dollars(typed, amount):
    form = _Form({"limit": typed})

    assert form.is_valid()
    assert form.cleaned_data == {"limit": amount}


@pytest.mark.parametrize("typed", ["", "ten", "0.0000000001", "9000000001", "NaN"])
def test_what_cannot_be_kept_exactly_is_refused_with_words(typed):
    form = _Form({"limit": typed})

    assert not form.is_valid()
    assert form.errors["limit"]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (500_000_000, "0.5"),
        (20 * NANO, "20"),
        (10, "0.00000001"),
    ],
)
def test_an_amount_is_shown_in_a_form_as_dollars_without_an_exponent(amount, shown):
    form = _Form(initial={"limit": amount})

    assert f'value="{shown}"' in str(form["limit"])


@pytest.mark.parametrize(("typed", "changed"), [("20.00", False), ("20.01", True), ("twenty", True)])
def test_a_form_knows_whether_the_amount_was_changed(typed, changed):
    form = _Form({"limit": typed}, initial={"limit": 20 * NANO})

    assert form.has_changed() is changed


def test_a_field_of_money_takes_dollars_in_every_form():
    field = MoneyField(help_text="Dollars.").formfield()

    assert isinstance(field, DollarsFormField)
    assert field.clean("2.5") == 2_500_000_000


def test_an_optional_amount_may_be_left_out():
    assert DollarsFormField(required=False).clean("") is None
    with pytest.raises(ValidationError):
        DollarsFormField(required=True).clean("")


def test_dollars_are_exact():
    assert dollars(1) == Decimal("0.000000001")
