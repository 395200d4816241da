from django.db import Error
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin


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
