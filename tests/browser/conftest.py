"""A real browser in front of the real site: `page = page_of(alice)` is a page of somebody who is signed in.

One browser for the session, one context (cookies, storage) for each person in each test. At the end of a test every
page must have been free of errors: nothing on the console, no violation of our policy, no dialog, no request that left
the site. `page.complaints` has them so far; what a test provokes on purpose it forgives: `page.forgive("409")`.
"""

from urllib.parse import urlsplit

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page

from chat.models import User

PATIENCE = 10_000  # milliseconds that Playwright waits for what should be there


@pytest.fixture
def page_of(chromium, site):
    """`page_of(alice)`; `page_of()` is not signed in. The rest is for the context: `page_of(bob, locale="ar")`."""
    watched = []

    def page_of(person: User | None = None, **options) -> Page:
        page = Watched(chromium, site, person, options)
        watched.append(page)
        return page.page

    yield page_of
    complaints = [complaint for page in watched for complaint in page.end()]
    assert complaints == []


class Watched:
    """A page, and what went wrong on it."""

    def __init__(self, chromium: Browser, site: str, person: User | None, options: dict):
        self._site, self._forgiven, self._complaints = site, [], []
        self._context = chromium.new_context(base_url=site, **options)
        self._context.set_default_timeout(PATIENCE)
        if person:
            client = Client()
            client.force_login(person)
            cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site, "httpOnly": True}
            self._context.add_cookies([cookie])
        self._context.on("console", self._on_console)
        self._context.on("weberror", lambda error: self._complain(f"error: {error.error}"))
        self._context.on("dialog", self._on_dialog)
        self._context.on("request", self._on_request)
        self.page = self._context.new_page()
        self.page.forgive, self.page.complaints = self._forgiven.append, self._complaints

    def end(self) -> list[str]:
        self._context.close()
        return [c for c in self._complaints if not any(words in c for words in self._forgiven)]

    def _complain(self, words: str) -> None:
        self._complaints.append(words)

    def _on_console(self, message) -> None:
        # A violation of the policy is an error here too.
        if message.type in {"error", "warning"}:
            self._complain(f"{message.type}: {message.text}")

    def _on_dialog(self, dialog) -> None:
        self._complain(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request) -> None:
        url = urlsplit(request.url)
        if url.scheme in {"http", "https", "ws", "wss"} and url.netloc != urlsplit(self._site).netloc:
            self._complain(f"left the site: {request.url}")
