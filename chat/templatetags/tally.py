"""Figures as people read them."""

from decimal import ROUND_CEILING

from django import template

from chat import money

register = template.Library()


@register.filter
def dollars(nano) -> str:
    """Nano-dollars as dollars; empty for nothing."""
    return "" if nano is None or nano == "" else money.spoken(int(nano))


@register.filter
def about(nano) -> str:
    """What something is expected to cost, in words that need no others."""
    if nano is None or nano == "":
        return ""
    amount = money.rough(int(nano))
    return f"less than {amount}" if money.dollars(int(nano)) < money.LEAST_ROUGH else f"about {amount}"


@register.filter
def at_most(nano) -> str:
    """Never less than it is."""
    return "" if nano is None or nano == "" else money.rough(int(nano), ROUND_CEILING)


@register.filter
def remaining(nano) -> str:
    """As `dollars`, without the digits of what is next to nothing."""
    is_little = nano not in (None, "") and 0 < money.dollars(int(nano)) < money.LEAST_ROUGH
    return f"less than ${money.LEAST_ROUGH}" if is_little else dollars(nano)


@register.filter
def count(number) -> str:
    return "" if number is None or number == "" else f"{int(number):,}"


@register.filter
def seconds(milliseconds) -> str:
    if milliseconds is None or milliseconds == "":
        return ""
    whole = int(milliseconds) / 1000
    return f"{whole:.1f} s" if whole < 60 else f"{int(whole // 60)} min {int(whole % 60)} s"
