"""Django behind ASGI, for views that are all synchronous.

Django's own handler crosses between the event loop and a fresh thread twice for each middleware of each request.
Here a request crosses once, into one of a few threads that live on and keep their database connection: a page costs
about half the CPU. What is long-lived (server-sent events) never comes this way; see chat/relay.py.
"""

import asyncio
import contextvars
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import Error, close_old_connections
from django.http import HttpRequest, HttpResponse, parse_cookie
from django.urls import set_script_prefix
from django.utils.csp import build_policy

# Where the composer sends a message, with its files where there is no JavaScript, and where files go up alone.
_WITH_FILES = re.compile(
    r"/attachments/|/conversations/(?:[0-9a-f-]{36}/(?:messages|draft)/)?|/turns/[0-9a-f-]{36}/stop/"
)


class Handler(ASGIHandler):
    def __init__(self):
        super(ASGIHandler, self).__init__()  # ASGIHandler's own would load the middleware in its async form
        self.load_middleware(is_async=False)
        # Whoever wants to read must not queue behind those who wait to write: for a lock, or for a database that hangs.
        self._writers = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="write")
        self._readers = ThreadPoolExecutor(max(2, settings.WEB_THREADS // 2), thread_name_prefix="read")
        self._handshakes = ThreadPoolExecutor(2, thread_name_prefix="handshake")

    async def handle(self, scope, receive, send) -> None:
        most = await self._most(scope)
        limited = _Limited(receive, most)
        try:
            body = await self.read_body(limited)
        except RequestAborted:
            if limited.exceeded:
                await self.send_response(self._too_large(scope, most), send)
            return
        with closing(body):
            set_script_prefix(get_script_prefix(scope))
            request, refusal = self.create_request(scope, body)
            if request is None:
                response = cast(HttpResponse, refusal)
            else:
                context = contextvars.copy_context()
                loop = asyncio.get_running_loop()
                threads = self._threads_for(request)
                response = await loop.run_in_executor(threads, context.run, self._respond, scope, request)
            await self.send_response(response, send)
            if response.streaming:
                await sync_to_async(response.close, thread_sensitive=False)()

    async def _most(self, scope) -> int:
        """How many bytes a request may have: more where files may come with it, from somebody who is signed in."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        is_small = not declared.isdigit() or int(declared) <= settings.LARGEST_REQUEST
        if is_small or not _may_bring_files(scope):
            return settings.LARGEST_REQUEST
        loop = asyncio.get_running_loop()
        known = await loop.run_in_executor(self._readers, _is_signed_in, headers.get(b"cookie", b"").decode("latin-1"))
        return settings.LARGEST_UPLOAD if known else settings.LARGEST_REQUEST

    def _threads_for(self, request) -> ThreadPoolExecutor:
        if request.path.endswith("/stream/"):
            return self._handshakes
        return self._readers if request.method in ("GET", "HEAD") else self._writers

    def _respond(self, scope, request) -> HttpResponse:
        signals.request_started.send(sender=type(self), scope=scope)
        response = cast(HttpResponse, self.get_response(request))
        # Here, where the thread's database connection is. A stream goes on without it.
        if response.streaming:
            close_old_connections()
        else:
            response.close()
        return response

    @staticmethod
    def _too_large(scope, most: int) -> HttpResponse:
        from chat.views import errors

        headers = dict(scope["headers"])
        brings_files = _may_bring_files(scope) and b"multipart/" in headers.get(b"content-type", b"")
        if brings_files and most > settings.LARGEST_REQUEST:
            words = f"These files are too large together: {most // 1_000_000} MB is the most. Attach fewer at a time."
        elif brings_files and b"content-length" in headers:
            words = "You are signed out, and so much is not taken then. Sign in in a new tab, then send."
        else:
            words = errors.TOO_LARGE
        htmx = headers.get(b"hx-request") == b"true"
        response = errors.unread(words, 413, htmx=htmx, path=scope["path"])
        response.headers["Content-Security-Policy"] = build_policy(settings.SECURE_CSP)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _may_bring_files(scope) -> bool:
    return scope["method"] == "POST" and _WITH_FILES.fullmatch(scope["path"]) is not None


def _is_signed_in(cookies: str) -> bool:
    """Before a large body is read: nobody else may fill our disk. While the database is away, the view says so."""
    request = HttpRequest()
    try:
        request.session = SessionStore(parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME))
        return get_user(request).is_authenticated
    except Error:
        return True
    finally:
        close_old_connections()


class _Limited:
    """Stop reading where Django would first spool everything and then complain."""

    def __init__(self, receive, most: int):
        self._receive, self._most, self._total = receive, most, 0

    @property
    def exceeded(self) -> bool:
        return self._total > self._most

    async def __call__(self) -> dict:
        message = await self._receive()
        self._total += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.exceeded else message
