"""Django behind ASGI, for views that are all synchronous.

Django's own handler crosses between the event loop and a fresh thread twice for each middleware of each request.
Here a request crosses once, into one of a few threads that live on and keep their database connection: a page costs
about half the CPU. What is long-lived (server-sent events) never comes this way; see chat/relay.py.
"""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.http import HttpResponse
from django.urls import set_script_prefix
from django.utils.csp import build_policy


class Handler(ASGIHandler):
    def __init__(self):
        super(ASGIHandler, self).__init__()  # ASGIHandler's own would load the middleware in its async form
        self.load_middleware(is_async=False)
        # Whoever wants to read must not queue behind those who wait to write: for a lock, or for a database that hangs.
        self._writers = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="write")
        self._readers = ThreadPoolExecutor(max(2, settings.WEB_THREADS // 2), thread_name_prefix="read")
        self._handshakes = ThreadPoolExecutor(2, thread_name_prefix="handshake")

    async def handle(self, scope, receive, send) -> None:
        limited = _Limited(receive)
        try:
            body = await self.read_body(limited)
        except RequestAborted:
            if limited.exceeded:
                await self.send_response(self._too_large(scope), send)
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
    def _too_large(scope) -> HttpResponse:
        from chat.views.errors import too_large

        response = too_large(htmx=(b"hx-request", b"true") in scope["headers"])
        response.headers["Content-Security-Policy"] = build_policy(settings.SECURE_CSP)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


class _Limited:
    """Stop reading where Django would first spool everything and then complain."""

    def __init__(self, receive):
        self._receive, self._total = receive, 0

    @property
    def exceeded(self) -> bool:
        return self._total > settings.LARGEST_REQUEST

    async def __call__(self) -> dict:
        message = await self._receive()
        self._total += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.exceeded else message
