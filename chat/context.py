"""What every page knows."""

from django.conf import settings


def product(request) -> dict:
    return {"product": settings.PRODUCT, "stand_in": settings.SANDBOX, "csrf_cookie": settings.CSRF_COOKIE_NAME}
