"""What a person has to be told above the composer."""

from django import template

from chat import warnings

register = template.Library()


@register.inclusion_tag("chat/_warnings.html", takes_context=True)
def notices(context: template.Context, person) -> dict:
    """Their own limits that are nearly or fully used, and the answers to their requests. Two queries."""
    conversation = context.get("conversation")
    return {
        "warnings": warnings.shown_to(person, context.get("standing")),
        "decisions": warnings.decisions_shown_to(person),
        "back": conversation.get_absolute_url() if conversation else "",
    }
