"""What people see when something is not there, not theirs, or broken. Never a word about why."""

import sys

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template import loader

from chat import fragments

RETRY_AFTER_SECONDS = 5
NOT_SAVED = "Tally cannot reach its data right now, so this was not saved. Your text is still here: try again shortly."


def bad_request(request: HttpRequest, exception=None) -> HttpResponse:
    if isinstance(exception, TooManyFieldsSent | TooManyFilesSent | RequestDataTooBig):
        return too_large(htmx=request.headers.get("HX-Request") == "true")
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception=None) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception=None) -> HttpResponse:
    return render(request, "404.html", status=404)


def too_large(*, htmx: bool) -> HttpResponse:
    """Before there is a request, so the text that was typed is only in the browser: htmx leaves it in the box."""
    words = "This is too large to be sent. Shorten the text, or send it in parts."
    if htmx:
        return HttpResponse(fragments.partial("composer-error", words), status=413)
    problem = {"title": "Too large", "words": f"{words} Go back: your text is still in the form."}
    return HttpResponse(loader.render_to_string("chat/problem.html", {"problem": problem}), status=413)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without context processors: they may be what is broken."""
    if isinstance(sys.exception(), (OperationalError, InterfaceError)):
        return unavailable(request)
    return HttpResponse(loader.render_to_string("500.html"), status=500)


def unavailable(request: HttpRequest) -> HttpResponse:
    """The database is away, full or locked. What was typed stays in its box, or comes back with a button to send it.

    It may have been saved all the same, and only the answer was lost: the same client_id finds it again.
    """
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS), "Cache-Control": "no-store"}
    if request.headers.get("HX-Request") == "true":
        words = fragments.not_saved(NOT_SAVED) if request.method == "POST" else ""
        return HttpResponse(words, status=503, headers={**headers, "HX-Reswap": "none"})
    message = request.POST if {"text", "client_id"} <= request.POST.keys() else None
    context = {"request": request, "message": message, "csrf_token": get_token(request), "again": RETRY_AFTER_SECONDS}
    return HttpResponse(loader.render_to_string("503.html", context), status=503, headers=headers)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "403_csrf.html", status=403)
