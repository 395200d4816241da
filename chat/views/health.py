"""For machines: is the process there, is everything that it needs there, and the figures."""

import hmac

from django.conf import settings
from django.db import Error, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chat import metrics as figures
from chat import streams


@never_cache
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain; charset=utf-8")


@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when a question could be answered now; 503 with what is missing. Redis alone missing is no reason to
    send people away (answers then come slower), but an operator should know."""
    found = {"database": _database(), "redis": False, "worker": False}
    try:
        found["worker"] = streams.pulse()
        found["redis"] = True
    except streams.Lost:
        pass
    return JsonResponse(found, status=200 if all(found.values()) else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus, with `Authorization: Bearer METRICS_TOKEN`; without the setting there is no such page."""
    given = request.headers.get("Authorization", "").encode()
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given, f"Bearer {settings.METRICS_TOKEN}".encode()):
        raise Http404
    return HttpResponse(generate_latest(figures.registry()), content_type=CONTENT_TYPE_LATEST)


def _database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except Error:
        return False
