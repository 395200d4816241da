"""What has to be true when all is over, whatever was done. A breach is a sentence, and the turn that it is about."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db.models import F

from chat import audit
from chat.models import BudgetPeriod, LedgerEntry, Message, NextMessage, Summary, Turn, UsageRecord
from tests.chaos.invoice import Comparison
from tests.chaos.soak.crowd import Member
from tests.chaos.soak.diary import Diary
from tests.chaos.soak.questions import Question, marker_in, searched

# What our processes, Django, uvicorn and Celery log of an exception that nobody has thought of.
UNFORESEEN = (
    "turn_failed",
    "keeper_failed",
    "publishing_failed",
    "Internal Server Error",
    "Exception in ASGI",
    "Error calling",
    "raised unexpected",
)


class Breach(NamedTuple):
    law: str
    words: str
    turn: Turn | None = None
    look_for: str = ""  # in the logs


class Laws:
    """`breaches()` when nothing runs any more. `posts` are the requests that the provider has seen, `unforeseen` the
    lines of the logs with one of these words in it."""

    def __init__(
        self, diary: Diary, members: list[Member], posts: list[dict], compared: Comparison, unforeseen: Iterable[str]
    ):
        self._diary, self._members, self._compared, self._unforeseen = diary, members, compared, unforeseen
        self._questions: dict[str, Question] = {sent.question.marker: sent.question for sent in diary.sent}
        streams = [post["body"] for post in posts if post["body"].get("stream")]
        self._posts = Counter(_asked_in(body) for body in streams if not _is_for_a_summary(body))
        self._posts_for_summaries = sum(map(_is_for_a_summary, streams))
        self.turns = list(Turn.objects.select_related("question", "reply", "conversation"))
        self.records: dict = defaultdict(list)
        for record in UsageRecord.objects.filter(purpose="reply").order_by("admitted_at", "id"):
            self.records[record.turn_id].append(record)
        self._by_id = {str(turn.id): turn for turn in self.turns}

    def breaches(self) -> list[Breach]:
        found = [*self.lost(), *self.doubled()]
        for law in (self._words_are_their_own, self._watchers, self._pages, self._answers_to_people, self._money):
            found += law()
        found += [Breach("no thread of the soak fails", repr(error)) for error in self._diary.broken]
        return found + [Breach("every exception has been thought of", line[:1500]) for line in self._unforeseen]

    def lost(self) -> list[Breach]:
        return [*self._accepted_turns_are_there(), *self._all_have_ended(), *self._nothing_waits_for_ever()]

    def doubled(self) -> list[Breach]:
        once = (self._questions_are_there_once, self._billed_once, self._sent_no_more_than_booked, self._summaries)
        return [breach for law in once for breach in law()]

    def _accepted_turns_are_there(self) -> Iterator[Breach]:
        """As a turn, or held back with words; or its writer has it in the composer again."""
        there = {(turn.user_id, turn.client_id) for turn in self.turns}
        there |= set(NextMessage.objects.values_list("conversation__owner", "client_id"))
        for sent in self._diary.sent:
            user = self._members[sent.person].person.user
            expected = sent.was_accepted and not sent.taken_back and sent.chat not in self._diary.deleted
            if expected and (user.id, sent.client_id) not in there:
                yield Breach("an accepted question is there", f"{sent.question.marker} was accepted and is nowhere")

    def _nothing_waits_for_ever(self) -> Iterator[Breach]:
        for waiting in NextMessage.objects.filter(held_back="").select_related("waits_for"):
            words = f"{waiting.text[:20]} waits for {waiting.waits_for}"
            yield Breach("what waits is sent or held back", words, waiting.waits_for)
        for summary in Summary.objects.live():
            yield Breach("every summary ends", f"{summary} is {summary.state}")

    def _all_have_ended(self) -> Iterator[Breach]:
        for turn in self.turns:
            if turn.is_live:
                yield Breach("every turn ends", f"{turn} has not ended", turn)

    def _questions_are_there_once(self) -> Iterator[Breach]:
        asked = Counter(map(marker_in, Message.objects.filter(role="user").values_list("text", flat=True)))
        for marker in NextMessage.objects.values_list("text", flat=True):
            asked[marker_in(marker)] += 1
        for marker, count in asked.items():
            if count > 1:
                yield Breach("a question is there once", f"{marker} is there {count} times")

    def _billed_once(self) -> Iterator[Breach]:
        """Of a turn's calls only the last may have been billed, but where Claude asked to be called again."""
        for turn in self.turns:
            billed = [record for record in self.records[turn.id] if record.state != UsageRecord.State.VOID]
            if any(record.stop_reason != "pause_turn" for record in billed[:-1]):
                yield Breach("a turn is paid once", f"{len(billed)} calls of {turn} may have been billed", turn)

    def _sent_no_more_than_booked(self) -> Iterator[Breach]:
        booked: Counter = Counter()
        last = {}
        for turn in self.turns:
            marker = marker_in(turn.question.text)
            booked[marker] += len([record for record in self.records[turn.id] if record.sent_at])
            last[marker] = turn
        for marker, turn in last.items():
            if self._posts[marker] > booked[marker]:
                words = f"{self._posts[marker]} requests for {marker}, and {booked[marker]} in the books"
                yield Breach("a request is booked before it is sent", words, turn)

    def _summaries(self) -> Iterator[Breach]:
        """Each is one call, and each request for one is in the books."""
        calls = UsageRecord.objects.filter(purpose="summary")
        booked, rows = calls.exclude(conversation=None).count(), Summary.objects.exclude(record=None).count()
        if booked != rows:
            yield Breach("a summary is one call", f"{rows} summaries, and {booked} calls for them")
        if self._posts_for_summaries > calls.count():
            words = f"{self._posts_for_summaries} requests for summaries, and {calls.count()} in the books"
            yield Breach("a request is booked before it is sent", words)

    def _words_are_their_own(self) -> Iterator[Breach]:
        """A finished answer has every word that the provider said to that question; another one begins like it."""
        for turn in self.turns:
            question = self._questions[marker_in(turn.question.text)]
            text, calls = turn.reply.text, [r for r in self.records[turn.id] if r.state == UsageRecord.State.SETTLED]
            text = searched(text) if question.searches else text
            whole = turn.state == Turn.State.DONE and turn.stop_reason != "max_tokens"
            if turn.stop_reason == "refusal":
                right = text == ""
            elif whole:
                right = text == question.said * len(calls)
            else:
                right = (question.said * max(1, len(calls))).startswith(text)
            if not right:
                words = f"{turn} ({question.scenario}, {turn.stop_reason}) says {text!r}, not {question.said!r}"
                yield Breach("the text is what the provider said", words, turn)

    def _watchers(self) -> Iterator[Breach]:
        """Who stayed has seen the end, and it is what the database has."""
        for turn_id, tab in self._diary.watched:
            turn = self._by_id.get(turn_id)
            if turn is None or tab.has_left:
                continue
            if not tab.ended.wait(30):
                words = f"a tab at {turn} got {len(tab.events)} events, {tab.breaks} breaks and no end"
                yield Breach("a watcher sees the end", words, turn)
            elif not tab.events or turn.reply.html not in tab.final:
                words = f"a tab at {turn} ended with {tab.events[-1:]}, not with {turn.reply.html!r}"
                yield Breach("a watcher sees what the database has", words, turn)

    def _pages(self) -> Iterator[Breach]:
        """A fresh load of the newest answer of each person."""
        newest = {turn.user_id: turn for turn in sorted(self.turns, key=lambda turn: turn.created_at)}
        for member in self._members:
            turn = newest.get(member.person.user.id)
            if turn is None:
                continue
            page = member.person.http.get(f"/conversations/{turn.conversation_id}/").text
            if turn.reply.html not in page or f'id="stream-{turn.id}"' in page:
                yield Breach("a page shows what the database has", f"{turn} is not on its page", turn)

    def _answers_to_people(self) -> Iterator[Breach]:
        """Refused, told to come back, or nothing at all while a process is away; but never a fault of ours."""
        for second, what, path, status in self._diary.statuses:
            if isinstance(status, int) and status not in (200, 204, 302, 404, 409, 503):
                words = f"{what} was answered by {status} at {second:.2f} s"
                yield Breach("nobody sees a fault of ours", words, look_for=path)

    def _money(self) -> Iterator[Breach]:
        yield from (Breach("the books agree with themselves", problem) for problem in audit.problems())
        for problem in self._compared.problems:
            about = [turn for turn in self.turns if any(str(r.id) in problem for r in self.records[turn.id])]
            yield Breach("the books agree with the invoice", problem, *about)
        for period in BudgetPeriod.objects.exclude(held=0):
            yield Breach("no money is held", f"{period} still holds {period.held}")
        for period in BudgetPeriod.objects.exclude(limit=None):
            standing, corrected = 0, False
            # Whoever writes an entry has the period's row locked, so this is their order, to the last one.
            for number, (kind, amount) in enumerate(period.entries.order_by("id").values_list("kind", "amount")):
                standing += amount
                # A correction says what has been spent already. It may pass a limit; nobody may hold anything after it.
                corrected = corrected or (kind == LedgerEntry.Kind.ADJUST and amount > 0)
                if standing > period.limit and (kind == LedgerEntry.Kind.HOLD or not corrected):
                    words = f"{period} stood at {standing} of {period.limit} with its entry {number}"
                    yield Breach("nobody is over a limit, at any instant", words)
                    break


def over_a_limit() -> list[BudgetPeriod]:
    """Who is over a limit at this instant, but for corrections of what had been spent before."""
    corrected = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.ADJUST, amount__gt=0).values("period")
    return list(BudgetPeriod.objects.filter(limit__lt=F("spent") + F("held")).exclude(id__in=corrected))


def _asked_in(body: dict) -> str:
    """The marker of the question that a request is about."""
    asked = [message["content"] for message in body["messages"] if message["role"] == "user"][-1]
    # What stands for older messages comes before the question.
    return marker_in(asked if isinstance(asked, str) else [block["text"] for block in asked if "text" in block][-1])


def _is_for_a_summary(body: dict) -> bool:
    return str(body["messages"][0]["content"]).startswith("<transcript>")
