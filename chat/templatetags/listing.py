"""What a list of conversations says about each."""

from django import template

from chat import sidebar

register = template.Library()


@register.filter
def state(conversation) -> str:
    return sidebar.state_of(conversation)
