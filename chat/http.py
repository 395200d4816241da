from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from chat.models import User


class SignedInRequest(HttpRequest):
    """What a view behind `login_required` gets: for the type checker, nothing makes one."""

    user: User
    htmx: HtmxDetails
