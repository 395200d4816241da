"""Somebody at the product's real address: cookies, forms and a stream that is followed as a browser follows it."""

import http.client
import threading
import time
import uuid
from urllib.parse import quote

import httpx2
from django.test import Client

from chat.models import Conversation, Turn, User
from chat.streams import START
from tests.pages import Reply, reply_on_page
from tests.sse import Event, Reader

CSRF = "b" * 32
COMES_BACK_AFTER = 1.0  # seconds, as the stream's own `retry` says


class Person:
    """`person = Person(site, alice)`; `close` it."""

    def __init__(self, site: str, user: User):
        self.user, self._site = user, site
        self.session = Client()
        self.session.force_login(user)
        cookies = {"sessionid": self.session.cookies["sessionid"].value, "csrftoken": CSRF}
        self.http = httpx2.Client(base_url=site, cookies=cookies, headers={"X-CSRFToken": CSRF}, timeout=30)

    def close(self) -> None:
        self.http.close()

    def send(self, text: str, *, to: Conversation, client_id=None, **fields) -> httpx2.Response:
        """Press Send: htmx's answer is what replaces a part of the page."""
        fields = {"text": text, "client_id": str(client_id or uuid.uuid4()), **fields}
        return self.http.post(f"/conversations/{to.id}/messages/", data=fields, headers={"HX-Request": "true"})

    def ask(self, text: str, *, to: Conversation, **fields) -> Turn:
        """Press Send, and be taken at one's word."""
        response = self.send(text, to=to, **fields)
        assert response.status_code == 200, f"{response.status_code}: {response.text[:300]}"
        return to.turns.latest("created_at")

    def stop(self, turn: Turn) -> httpx2.Response:
        return self.http.post(f"/turns/{turn.id}/stop/", headers={"HX-Request": "true"})

    def retry(self, turn: Turn) -> Turn:
        response = self.http.post(f"/turns/{turn.id}/retries/", headers={"HX-Request": "true"})
        assert response.status_code == 200, response.text[:300]
        return turn.conversation.turns.latest("created_at")

    def page(self, turn: Turn) -> Reply:
        """The answer as a fresh load of the page shows it."""
        return reply_on_page(self.http, turn)

    def watch(self, turn: Turn) -> "Watcher":
        return Watcher(self._site, self.session, turn)


class Watcher:
    """A tab that follows an answer from its first word, and comes back each time its connection breaks.

    `events` are all that came; `ids` those of the stream; `breaks` how often it had to come back.
    """

    def __init__(self, site: str, session: Client, turn: Turn):
        self._site, self._session, self._turn = site, session, turn.id
        self.events: list[Event] = []
        self.breaks = 0
        self.ended = threading.Event()
        self._gone = False
        self._reader: Reader | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def ids(self) -> list[str]:
        return [event.id for event in list(self.events) if event.id]

    @property
    def has_left(self) -> bool:
        return self._gone

    @property
    def final(self) -> str:
        """The HTML of the last message before `done`."""
        return self.events[-1].data

    def wait(self, seconds: float = 40) -> "Watcher":
        """Until the stream has said that it is done."""
        assert self.ended.wait(seconds), f"the stream did not end; {len(self.events)} events, {self.breaks} breaks"
        return self

    def leave(self) -> None:
        self._gone = True
        if self._reader:
            self._reader.close()
        self._thread.join(5)

    def _follow(self) -> None:
        after = str(START)
        while not self._gone and not self.ended.is_set():
            try:
                path = f"/turns/{self._turn}/stream/?after={quote(after)}"
                self._reader = Reader(self._site, path, self._session, last_id=self.ids[-1] if self.ids else "")
                for event in self._reader:
                    if event.name == "done":
                        self.ended.set()
                        return
                    self.events.append(event)
            except (OSError, http.client.HTTPException, ValueError, AttributeError):
                pass  # the last two: read from what `leave` has closed
            finally:
                if self._reader:
                    self._reader.close()
            self.breaks += 1
            time.sleep(COMES_BACK_AFTER)
