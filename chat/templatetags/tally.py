"""Figures as people read them."""

from django import template

from chat import money

register = template.Library()


@register.filter
def dollars(nano) -> str:
    """Nano-dollars as dollars; empty for nothing."""
    return "" if nano is None or nano == "" else money.spoken(int(nano))


@register.filter
def count(number) -> str:
    return "" if number is None or number == "" else f"{int(number):,}"


@register.filter
def seconds(milliseconds) -> str:
    if milliseconds is None or milliseconds == "":
        return ""
    whole = int(milliseconds) / 1000
    return f"{whole:.1f} s" if whole < 60 else f"{int(whole // 60)} min {int(whole % 60)} s"
