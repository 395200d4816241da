"""People at work: they ask, watch, leave, stop, ask again, send twice, open a second tab, delete a chat."""

import random
import re
import threading
import uuid

import httpx2
from django.db import connection

from chat.models import Conversation, Turn, User
from tests.chaos.people import Person, Watcher
from tests.chaos.soak import questions
from tests.chaos.soak.diary import Diary, Sent

CHATS = 4
TRIES = 5  # how often somebody presses Send again after an error
PATIENCE = 8  # seconds that somebody looks at one answer
_TURN = re.compile(r'id="done-([0-9a-f-]{36})"')


class Member:
    """One person, until the diary says that it is enough. `starts_chats`: also new ones, which get a title."""

    def __init__(self, number: int, person: Person, diary: Diary, seed: str, *, pace: float, starts_chats: bool):
        self.number, self.person, self._diary = number, person, diary
        self.name = f"person {number}"
        self._rng = random.Random(f"{seed} person {number}")
        self._pace, self._starts_chats = pace, starts_chats
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
        question = questions.draw(self._rng, self.number, self._asked)
        self._asked += 1
        if self._starts_chats and self._happens(0.02):
            return self._start_chat(question)
        chat = self._rng.choice(self._chats)
        sent = self._note(Sent(self.number, chat, question.client_id, question))
        if self._happens(0.06):
            self._send_twice(sent)
        else:
            self._send(sent)
        if sent.turn:
            self._follow(sent)
        if self._happens(0.015) and len(self._chats) > 2:
            self._delete(self._rng.choice(self._chats))

    def _send(self, sent: Sent) -> None:
        """Press Send until there is an answer, whatever it is: each time the same message, with the same client_id."""
        fields = {"text": sent.question.text, "client_id": str(sent.client_id)}
        for _ in range(TRIES):
            response = self._post("send", f"/conversations/{sent.chat}/messages/", sent, **fields)
            if response is not None and response.status_code < 500:
                self._take(sent, response)
                return
            if not self._rest(1):
                return

    def _send_twice(self, sent: Sent) -> None:
        second = threading.Thread(target=self._send, args=[sent])
        second.start()
        self._send(sent)
        second.join()

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
            offered = tab.ended.is_set() and bool(tab.events) and "Retry</button>" in tab.final
            if self._happens(0.4 if offered else 0.03):
                self._retry(sent)

    def _watch(self, turn: str) -> Watcher:
        tab = self.person.watch(Turn(id=uuid.UUID(turn)))
        self._diary.watched.append((turn, tab))
        return tab

    def _retry(self, before: Sent) -> None:
        client_id = uuid.uuid5(uuid.UUID(before.turn), "retry")
        sent = self._note(Sent(self.number, before.chat, client_id, before.question))
        response = self._post("retry", f"/turns/{before.turn}/retries/", sent)
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
