"""People at work: they ask, watch, leave, stop, ask again, send twice, open a second tab, delete a chat; they enclose
files, search, send the next message before the answer is there and take it back, ask differently, summarise."""

import random
import re
import threading
import uuid

import httpx2
from django.db import connection

from chat.models import Conversation, Turn, User
from tests.attached import ids, noise, picture
from tests.books import HAIKU
from tests.chaos.people import Person, Watcher
from tests.chaos.soak import questions
from tests.chaos.soak.diary import Diary, Sent

CHATS = 4
TRIES = 5  # how often somebody presses Send again after an error
PATIENCE = 8  # seconds that somebody looks at one answer
_TURN = re.compile(r'id="done-([0-9a-f-]{36})"')
_QUESTION = re.compile(r'id="message-([0-9a-f-]{36})" data-role="user"')
# A long text fills a chat so far that its older turns are summarised; of the product's own tests a PDF takes too long.
FILES = [("cat.png", picture()), ("map.jpg", noise("JPEG", (300, 200))), ("long.txt", b"word " * 6_000)]


class Member:
    """One person, until the diary says that it is enough. `has_time`: long enough for the calls beside the answers, of
    titles and summaries, to be settled when their worker dies."""

    def __init__(self, number: int, person: Person, diary: Diary, seed: str, *, pace: float, has_time: bool):
        self.number, self.person, self._diary = number, person, diary
        self.name = f"person {number}"
        self._rng = random.Random(f"{seed} person {number}")
        self._pace, self._has_time = pace, has_time
        self._asked = 0
        self._chats: list[uuid.UUID] = []

    def given(self, chats: list[Conversation]) -> "Member":
        self._chats = [chat.id for chat in chats]
        return self

    def run(self) -> None:
        try:
            self._rest(self._pace)
            while not self._diary.finished.is_set():
                self._act()
                self._rest(self._pace)
        except BaseException as error:
            self._diary.broken.append(error)
        finally:
            connection.close()

    def _act(self) -> None:
        question = self._think()
        if self._has_time and self._happens(0.02):
            return self._start_chat(question)
        chat = self._rng.choice(self._chats)
        sent = self._note(Sent(self.number, chat, question.client_id, question))
        composed = self._compose(question)
        if self._happens(0.06):
            self._send_twice(sent, **composed)
        else:
            self._send(sent, **composed)
        if sent.turn and self._happens(0.15):
            self._go_on(sent)
        if sent.turn:
            self._follow(sent)
        if sent.message and self._happens(0.1):
            self._edit(sent)
        if self._has_time and self._happens(0.08):
            self._post("summarise", f"/conversations/{chat}/summaries/", begins=self._rng.choice(["", "chat"]))
        if self._happens(0.015) and len(self._chats) > 2:
            self._delete(self._rng.choice(self._chats))

    def _think(self) -> questions.Question:
        question = questions.draw(self._rng, self.number, self._asked)
        self._asked += 1
        return question

    def _compose(self, question: questions.Question) -> dict:
        """What stands in the composer beside the text."""
        search = {"search": "1"} if question.searches or self._happens(0.1) else {}
        return {"composer": "1", **search, "attachments": self._hand_in() if self._happens(0.12) else []}

    def _hand_in(self) -> list[str]:
        try:
            file = {"files": self._rng.choice(FILES)}
            response = self.person.http.post("/attachments/", files=file, headers={"HX-Request": "true"})
        except httpx2.HTTPError as error:
            self._diary.answered("file", "/attachments/", type(error).__name__)
            return []
        self._diary.answered("file", "/attachments/", response.status_code)
        return [str(each) for each in ids(response)] if response.status_code == 200 else []

    def _send(self, sent: Sent, address: str = "", **composed) -> None:
        """Press Send until there is an answer, whatever it is: each time the same message, with the same client_id."""
        fields = {"text": sent.question.text, "client_id": str(sent.client_id), **composed}
        for _ in range(TRIES):
            response = self._post("send", address or f"/conversations/{sent.chat}/messages/", sent, **fields)
            if response is not None and response.status_code < 500:
                self._take(sent, response)
                return
            if not self._rest(1):
                return

    def _send_twice(self, sent: Sent, **composed) -> None:
        second = threading.Thread(target=self._send, args=[sent], kwargs=composed)
        second.start()
        self._send(sent, **composed)
        second.join()

    def _go_on(self, before: Sent) -> None:
        """Send the next message at once, and perhaps think better of it."""
        question = self._think()
        sent = self._note(Sent(self.number, before.chat, question.client_id, question))
        self._send(sent, **self._compose(question))
        if self._happens(0.25):
            self._take_back(sent)

    def _take_back(self, sent: Sent) -> None:
        """If it waits still; where nobody hears whether it did, it may have."""
        address = f"/conversations/{sent.chat}/next/withdrawal/"
        response = self._post("take back", address, text="", waiting=str(sent.client_id))
        heard = response is not None and response.status_code == 200
        sent.taken_back |= not heard or f"{sent.question.marker}?" in response.text

    def _edit(self, before: Sent) -> None:
        question = self._think()
        sent = self._note(Sent(self.number, before.chat, question.client_id, question))
        self._send(sent, f"/messages/{before.message}/siblings/")

    def _follow(self, sent: Sent) -> None:
        tab = self._watch(sent.turn) if self._happens(0.7) else None
        if tab and self._happens(0.15):
            self._watch(sent.turn)
        if self._happens(0.12):
            self._diary.finished.wait(self._rng.choice([0, 0, 0.3, 1]))
            for _ in range(self._rng.choice([1, 1, 2])):
                self._post("stop", f"/turns/{sent.turn}/stop/")
        if tab and self._happens(0.15):
            self._diary.finished.wait(self._rng.random())
            tab.leave()
        elif tab:
            tab.ended.wait(PATIENCE)
            offered = tab.ended.is_set() and bool(tab.events) and _offers_retry(tab.final)
            if self._happens(0.4 if offered else 0.03):
                self._retry(sent)

    def _watch(self, turn: str) -> Watcher:
        tab = self.person.watch(Turn(id=uuid.UUID(turn)))
        self._diary.watched.append((turn, tab))
        return tab

    def _retry(self, before: Sent) -> None:
        model = self._rng.choice(["", "", HAIKU])
        client_id = uuid.uuid5(uuid.UUID(before.turn), f"retry  {model}")  # as the button makes it
        sent = self._note(Sent(self.number, before.chat, client_id, before.question))
        response = self._post("retry", f"/turns/{before.turn}/retries/", sent, model=model)
        if response is not None:
            self._take(sent, response)
        if sent.turn and self._happens(0.5):
            self._watch(sent.turn).ended.wait(PATIENCE)

    def _start_chat(self, question: questions.Question) -> None:
        fields = {"text": question.text, "client_id": str(question.client_id)}
        response = self._post("begin", "/conversations/", **fields)
        if response is not None and response.status_code == 200:
            chat = uuid.UUID(response.headers["HX-Redirect"].strip("/").rpartition("/")[2])
            self._chats.append(chat)
            self._note(Sent(self.number, chat, question.client_id, question, [(self._diary.now, 200)]))

    def _delete(self, chat: uuid.UUID) -> None:
        self._diary.deleted.add(chat)  # before: it may be done though nobody hears of it
        self._chats.remove(chat)
        self._post("delete", f"/conversations/{chat}/deletion/")

    def _post(self, what: str, path: str, sent: Sent | None = None, **fields) -> httpx2.Response | None:
        try:
            response = self.person.http.post(path, data=fields, headers={"HX-Request": "true"})
        except httpx2.HTTPError as error:
            self._diary.answered(what, path, type(error).__name__, sent)
            return None
        self._diary.answered(what, path, response.status_code, sent)
        return response

    def _take(self, sent: Sent, response: httpx2.Response) -> None:
        if response.status_code == 200 and (found := _TURN.search(response.text)):
            sent.turn = found[1]
            if question := _QUESTION.search(response.text):
                sent.message = question[1]

    def _note(self, sent: Sent) -> Sent:
        self._diary.sent.append(sent)
        return sent

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _rest(self, seconds: float) -> bool:
        """About so long. False when it is enough for today."""
        return not self._diary.finished.wait(seconds * self._rng.uniform(0.2, 1.8))


def people(count: int) -> list[User]:
    return User.objects.bulk_create([User(username=f"person{n}", email=f"person{n}@example.org") for n in range(count)])


def _offers_retry(article: str) -> bool:
    """Whether the words of the ending do; in the tools below an answer it is always there."""
    return bool(re.search(r'class="button[^>]*>Try again</button>', article))
