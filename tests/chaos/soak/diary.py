"""What people did and what was done to them, each with its second. Many threads write, `laws` reads."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.people import Watcher
from tests.chaos.soak.questions import Question


@dataclass
class Sent:
    """One press of Send or of Try again. `answers` are (second, status), as `Diary.answered` notes them; `message` is
    the question on the page. `taken_back` where somebody has tried to."""

    person: int
    chat: uuid.UUID
    client_id: uuid.UUID
    question: Question
    answers: list[tuple[float, int | str]] = field(default_factory=list)
    turn: str = ""
    message: str = ""
    taken_back: bool = False

    @property
    def was_accepted(self) -> bool:
        return any(status in (200, 204) for _, status in self.answers)


@dataclass
class Fault:
    kind: str
    began: float
    ended: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.began:7.2f} to {self.ended:7.2f} s  {self.kind} {self.detail}"


class Diary:
    def __init__(self):
        self._began = time.time()
        self.sent: list[Sent] = []
        self.watched: list[tuple[str, Watcher]] = []
        self.faults: list[Fault] = []
        self.statuses: list[tuple[float, str, str, int | str]] = []
        self.broken: list[BaseException] = []
        self.deleted: set[uuid.UUID] = set()
        self.finished = threading.Event()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self._began

    def second_of(self, moment) -> float:
        return moment.timestamp() - self._began

    def answered(self, what: str, path: str, status: int | str, sent: Sent | None = None) -> None:
        """`status` is the name of an error where no answer came."""
        self.statuses.append((self.now, what, path, status))
        if sent:
            sent.answers.append((self.now, status))

    @contextmanager
    def fault(self, kind: str, detail: str = "") -> Iterator[Fault]:
        fault = Fault(kind, self.now, detail=detail)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            fault.ended = self.now

    def around(self, begin: float, end: float) -> list[Fault]:
        """The faults of a time."""
        return [fault for fault in self.faults if fault.began <= end and fault.ended >= begin]
