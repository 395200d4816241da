from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

from chat.views import errors


class PrivatePages(MiddlewareMixin):
    """What a signed-in person sees stays in no cache, neither the browser's nor a proxy's."""

    def process_response(self, request, response):
        # While the database is away nobody can say who this is, and to ask would be to wait for it once more.
        if response.status_code == 503 or self._may_be_signed_in(request):
            response["Cache-Control"] = "no-store, private"
            patch_vary_headers(response, ["Cookie", "HX-Request"])
        return response

    @staticmethod
    def _may_be_signed_in(request) -> bool:
        try:
            return getattr(request, "user", None) is not None and request.user.is_authenticated
        except Error:
            return True  # the page itself (/healthz) did not need the database


class OldPages:
    """A page may be older than the session that it is used in: that has ended, or it is somebody else's by now.

    A script would follow the redirect to the sign-in page and put that into its own. And who signs in leaves nothing of
    what they had sent: so both are told in words. Our pages name their reader to their scripts' requests (`X-Person`),
    as the token against forgery follows the cookie.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        reader = request.headers.get("X-Person", "")
        if reader and request.user.is_authenticated and str(request.user.pk) != reader:
            return errors.somebody_else(request)
        response = self._get_response(request)
        if _asks_to_sign_in(response) and not request.user.is_authenticated:
            return errors.signed_out(request) or response
        return response


def _asks_to_sign_in(response: HttpResponse) -> bool:
    to = urlsplit(response.get("Location", ""))
    return response.status_code == 302 and to.path == resolve_url(settings.LOGIN_URL) and "next=" in to.query
