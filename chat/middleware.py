from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin


class PrivatePages(MiddlewareMixin):
    """What a signed-in person sees stays in no cache, neither the browser's nor a proxy's."""

    def process_response(self, request, response):
        if getattr(request, "user", None) is not None and request.user.is_authenticated:
            response["Cache-Control"] = "no-store, private"
            patch_vary_headers(response, ["Cookie", "HX-Request"])
        return response
