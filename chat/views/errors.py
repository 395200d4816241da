"""What people see when something is not there, not theirs, or broken. Never a word about why."""

import sys

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template import loader

from chat import fragments
from chat.http import by_script, from_our_page
from chat.kept import OF_A_CHAT, Kept, kept
from chat.models import Conversation

RETRY_AFTER_SECONDS = 5
TOO_LARGE = "This is too large to be sent. Shorten the text, or send it in parts."
UPLOADS = "/attachments/"
NOT_SAVED = "Tally cannot reach its data right now, so this was not saved. Your text is still here: try again shortly."


def bad_request(request: HttpRequest, exception=None) -> HttpResponse:
    words = _why_unread(exception)
    if not words:
        return render(request, "400.html", status=400)
    status = 400 if isinstance(exception, MultiPartParserError) else 413
    return unread(words, status, htmx=request.headers.get("HX-Request") == "true", path=request.path)


def forbidden(request: HttpRequest, exception=None) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception=None) -> HttpResponse:
    if by_script(request) and not request.user.is_authenticated:
        return _said(request, "signed_out", 401)
    if not _is_of_a_chat_that_is_gone(request):
        return render(request, "404.html", status=404)
    if by_script(request):
        return _said(request, "deleted", 404)
    if written := kept(request, but=OF_A_CHAT):
        return _given_back(request, "deleted", 404, written)
    return render(request, "404.html", status=404)


def signed_out(request: HttpRequest) -> HttpResponse | None:
    """Instead of a redirect to the sign-in page; None where that loses nothing."""
    if by_script(request):
        return _said(request, "signed_out", 401)
    written = kept(request)
    return _given_back(request, "signed_out", 403, written) if written else None


def somebody_else(request: HttpRequest) -> HttpResponse:
    return _said(request, "somebody_else", 401)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Signing in makes another token, so that whatever was opened before has one that does not count any more.

    What comes from another site gets nothing back: it would be one click away from being sent in this person's name.
    """
    why = "too_old" if request.user.is_authenticated else "signed_out"
    ours = from_our_page(request)
    if by_script(request):
        if ours:
            get_token(request)  # sets the cookie, where it was missing; static/js/session.js takes it from there
        return _said(request, why, 403 if why == "too_old" else 401)
    if ours and (written := kept(request)):
        return _given_back(request, why, 403, written)
    return render(request, "403_csrf.html", status=403)


def unread(words: str, status: int, *, htmx: bool, path: str) -> HttpResponse:
    """Before there is a request, so the text that was typed is only in the browser: htmx leaves it in the box."""
    if htmx and path == UPLOADS:
        return HttpResponse(loader.render_to_string("chat/_files.html#refusal", {"why": words}), status=status)
    if htmx:
        return HttpResponse(fragments.partial("composer-error", words), status=status)
    problem = {"title": "Not taken", "words": f"{words} Go back: your text is still in the form."}
    return HttpResponse(loader.render_to_string("chat/problem.html", {"problem": problem}), status=status)


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


def _why_unread(exception) -> str:
    if isinstance(exception, TooManyFilesSent):
        most = settings.DATA_UPLOAD_MAX_NUMBER_FILES
        return f"These are more than {most} files. Attach at most {settings.FILES_PER_MESSAGE} at a time."
    if isinstance(exception, TooManyFieldsSent):
        return f"This form has more than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields, so it was not read."
    if isinstance(exception, RequestDataTooBig):
        return TOO_LARGE
    # Django says in words only that the head of a part has more than 1,024 bytes: all that can be long is the name.
    if isinstance(exception, MultiPartParserError) and "header size" in str(exception):
        return "The name of a file is too long. Give it one of at most 200 letters."
    return ""


def _is_of_a_chat_that_is_gone(request: HttpRequest) -> bool:
    """Whether the address is of a chat that this person does not have; not merely of something that is not in it."""
    named = request.resolver_match.kwargs if request.resolver_match else {}
    if "conversation_id" in named:
        mine = Conversation.objects.filter(owner=request.user.pk)
        return not mine.filter(id=named["conversation_id"]).exists()
    return bool({"turn_id", "message_id", "summary_id"} & named.keys())


def _said(request: HttpRequest, why: str, status: int) -> HttpResponse:
    """Words for a script to put beside the box that somebody writes in. Said again, they are not announced again."""
    named = request.resolver_match.kwargs if request.resolver_match else {}
    context = {"turn_id": named.get("turn_id"), "message_id": named.get("message_id")}
    html = loader.render_to_string(f"chat/_old_page.html#{why}", context)
    return HttpResponse(html, status=status, headers={"Cache-Control": "no-store"})


def _given_back(request: HttpRequest, why: str, status: int, written: Kept) -> HttpResponse:
    """Without JavaScript: a page with what was written, to be sent again. It is stored nowhere."""
    response = render(request, "chat/kept.html", {"why": why, "kept": written}, status=status)
    response.headers["Cache-Control"] = "no-store"
    return response
