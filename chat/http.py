from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from chat.models import User


class SignedInRequest(HttpRequest):
    """What a view behind `login_required` gets: for the type checker, nothing makes one."""

    user: User
    htmx: HtmxDetails


def by_script(request: HttpRequest) -> bool:
    """Whether a script of ours asks, which would follow a redirect and take the page behind it for its answer."""
    headers = request.headers
    wants_json = headers.get("Accept", "").startswith("application/json")
    return headers.get("HX-Request") == "true" or headers.get("Sec-Fetch-Dest") == "empty" or wants_json


def from_our_page(request: HttpRequest) -> bool:
    """Whether a form that failed its check for forgery was a page of ours all the same, as its browser says."""
    return request.headers.get("Origin") == f"{request.scheme}://{request.get_host()}"


def back(request: HttpRequest, otherwise: str) -> str:
    """Where the form that was sent stood, as its field `next` says, if that is a page of ours."""
    page = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if is_ours else otherwise
