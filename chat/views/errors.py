"""What people see when something is not there, not theirs, or broken. Never a word about why."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

from chat import fragments


def bad_request(request: HttpRequest, exception=None) -> HttpResponse:
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
    return HttpResponse(loader.render_to_string("500.html"), status=500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "403_csrf.html", status=403)
