"""The soak's laws notice what they are for: each is broken here by hand."""

import random
from types import SimpleNamespace

import httpx2
import pytest
from django.db.models.functions import Now

from chat import spend
from chat.models import BudgetPeriod, Message, Turn, UsageRecord
from chat.pricing import Usage
from tests.books import admit, undone
from tests.chaos import invoice
from tests.chaos.soak import questions
from tests.chaos.soak.diary import Diary, Sent
from tests.chaos.soak.laws import Laws


class Day:
    """One question, asked, answered and paid for; what is done to it is seen by `breaches`."""

    def __init__(self, alice, conversation, browser):
        self.user, self.conversation = alice, conversation
        self.question = questions.draw(random.Random(1), person=0, number=0)
        self.turn = conversation.start_turn(self.question.text, self.question.client_id)
        self.turn = Turn.objects.claim(self.turn.id)
        self.pay()
        self.turn.reply.write([{"type": "text", "text": self.question.said}])
        self.turn.reply.keep()
        Turn.objects.update(state=Turn.State.DONE, stop_reason="end_turn", lease_until=None, finished_at=Now())
        self.members = [SimpleNamespace(person=SimpleNamespace(user=alice, http=browser))]
        self.diary = Diary()
        self.diary.sent.append(Sent(0, conversation.id, self.turn.client_id, self.question, [(1.0, 200)]))
        self.posts = [self.request()]

    def pay(self) -> None:
        record = admit(self.user, purpose=UsageRecord.Purpose.REPLY, turn=self.turn)
        spend.settle(record, Usage(input=50, output=200), exact=True, stop_reason="end_turn")

    def request(self) -> dict:
        return {"body": {"stream": True, "messages": [{"role": "user", "content": self.question.text}]}}

    def breaches(self) -> set[str]:
        laws = Laws(self.diary, self.members, self.posts, invoice.Comparison(), unforeseen=[])
        return {breach.law for breach in laws.breaches()}


@pytest.fixture
def day(alice, conversation, browse):
    return Day(alice, conversation, browse(alice))


def lose(day: Day) -> None:
    day.conversation.delete()


def never_end(day: Day) -> None:
    Turn.objects.update(state=Turn.State.QUEUED)


def ask_twice(day: Day) -> None:
    Message.objects.create(conversation=day.conversation, role="user", text=day.question.text)


def pay_twice(day: Day) -> None:
    Turn.objects.update(state=Turn.State.RUNNING, lease_until=Now())
    day.pay()
    Turn.objects.update(state=Turn.State.DONE, lease_until=None)
    day.turn.reply.write([{"type": "text", "text": 2 * day.question.said}])
    day.turn.reply.keep()


def send_unbooked(day: Day) -> None:
    day.posts.append(day.request())


def mix_up(day: Day) -> None:
    day.turn.reply.write([{"type": "text", "text": day.question.said.replace("q0n0", "q1n0")}])
    day.turn.reply.keep()


def show_nothing(day: Day) -> None:
    tab = SimpleNamespace(has_left=False, ended=SimpleNamespace(wait=lambda seconds: True), events=[])
    day.diary.watched.append((str(day.turn.id), tab))


def fail(day: Day) -> None:
    day.diary.answered("send", "/conversations/", 500)


def overspend(day: Day) -> None:
    BudgetPeriod.objects.update(limit=1)


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (lose, "an accepted question is there"),
        (never_end, "every turn ends"),
        (ask_twice, "a question is there once"),
        (pay_twice, "a turn is paid once"),
        (send_unbooked, "a request is booked before it is sent"),
        (mix_up, "the text is what the provider said"),
        (show_nothing, "a watcher sees what the database has"),
        (fail, "nobody sees a fault of ours"),
        (overspend, "nobody is over a limit, at any instant"),
    ],
)
def test_c41_a_broken_law_is_noticed(day, damage, law):
    assert day.breaches() == set()

    with undone():
        damage(day)

        assert law in day.breaches()


def test_c41_a_line_of_the_invoice_that_is_not_in_the_books_is_noticed(sandbox):
    headers = {"x-api-key": "key-of-the-tests", "anthropic-version": "2023-06-01"}
    body = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}

    httpx2.post(f"{sandbox.url}/v1/messages", headers=headers, json=body).raise_for_status()

    posts, unbooked = invoice.compare(sandbox).problems
    assert posts == "1 POSTs, but only 0 calls in the books."
    assert unbooked.endswith("and is not in the books.")
