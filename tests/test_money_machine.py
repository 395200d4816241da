"""The state machine of a turn and its money: the real code, in any order, with every promise checked after each step.

Real are submission, claim, `turns.run` with its retries and pauses, files, summaries, next messages, spend, titles, the
keeper's round and the sweeper. Played are Claude, the bell and the database's clock, see tests/play.
MONEY_EXAMPLES=10000 searches longer, and --hypothesis-seed says where.
"""

import os
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chat import composer, next_messages, spend, submission, summaries, turns
from chat.foresight import Asked, Foresight
from chat.models import (
    Attachment,
    Budget,
    BudgetPeriod,
    Conversation,
    NextMessage,
    Summary,
    Turn,
    UsageRecord,
    User,
)
from chat.models.conversation import LiveTurnExists
from chat.money import nano
from chat.periods import window
from chat.sweeper import Sweeper
from tests.attached import picture
from tests.books import HAIKU, SONNET
from tests.play.claude import Claude
from tests.play.laws import HELD, SENT, SETTLED, Laws, Limit
from tests.play.stage import Clock, Worker, stage
from tests.talk import say

TOKENS_PER_SECOND = 250
# Longer than any call without a turn is left alone.
A_LONG_WHILE = 3_600

longer = os.environ.get("MONEY_EXAMPLES")
thorough = settings(
    max_examples=int(longer or 25),
    stateful_step_count=int(os.environ.get("MONEY_STEPS", "30")),
    deadline=None,
    derandomize=not longer,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

WHICH = st.integers(0, 7)
TOKENS = st.sampled_from([0, 25, 500])
DOLLARS = st.sampled_from(["0", "0.003", "0.05", "0.1", "0.3", "1", "5"])
NEXT_MONTH = "next month"

# Facts as `files.store` finds them, and what is in the file. "lost" is in no folder any more, "dense" has more on its
# pages than the vendor expects of any.
FILES = {
    "picture": (
        {"kind": "image", "media_type": "image/png", "width": 1_400, "height": 900},
        picture(size=(1_400, 900)),
    ),
    "lost": ({"kind": "image", "media_type": "image/png", "width": 64, "height": 48}, None),
    "report": ({"kind": "pdf", "media_type": "application/pdf", "pages": 2}, b"%PDF-1.7"),
    "dense": ({"kind": "pdf", "media_type": "application/pdf", "pages": 2}, b"%PDF-1.7"),
    "notes": ({"kind": "text", "media_type": "text/plain"}, b"word " * 300),
}
ENCLOSED = st.sampled_from(["", "", "", *FILES])


class MoneyMachine(Laws, RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.clock, self.written = Clock(), False
        self.claude = Claude(self.clock)
        self._stage = stage(self.clock, self.claude)
        self._undone = transaction.atomic()
        self._noting = connection.execute_wrapper(self._note_writes)
        for context in (self._stage, self._noting, self._undone):
            context.__enter__()
        self.people = list(User.objects.filter(username__in=["alice", "bob"]).order_by("username"))
        self.team = Group.objects.create(name="Team")
        self.people[0].groups.add(self.team)
        self.chats = [self._chat(person) for person in self.people * 2]
        self.chats += [self._long_chat(person) for person in self.people]
        self.sweeper, self.workers, self.asked = Sweeper(), [], []
        self.limits: list[Limit] = []
        self.seen: dict = {}
        self.corrections: dict = {}
        self.queued: dict = {}
        self.withdrawn: set = set()
        self.swept: set = set()
        for person in self.people:
            self._limit("personal", person.pk, nano("5"), user=person)

    def teardown(self):
        try:
            self._come_to_rest()
        finally:
            for worker in self.workers:
                worker.die()
            transaction.set_rollback(True)
            for context in (self._undone, self._noting, self._stage):
                context.__exit__(None, None, None)

    # --- Somebody at a browser

    @rule(
        which=WHICH,
        words=st.sampled_from([1, 400]),
        comes_to=st.sampled_from(["posted", "claimed", ""]),
        search=st.booleans(),
        enclosed=ENCLOSED,
    )
    def ask(self, which, words, comes_to, search=False, enclosed=""):
        """Press Send in the composer. While an answer is being written, the message waits."""
        chat, client_id = self._one_of(self.chats, which), uuid.uuid4()
        text, files = "word " * words, [self._file(chat, enclosed)] if enclosed else []
        chat.max_searches = composer.searches(wanted=search)
        searching = Conversation.objects.filter(id=chat.id)
        blocks = tuple(file.block for file in files)
        said = Foresight(chat.owner, chat, Asked(text, chat.model, "quick", chat.max_searches, blocks))
        try:
            turn = submission.ask(
                chat,
                text,
                client_id,
                effort="quick",
                attachments=files,
                then=lambda turn: searching.update(max_searches=chat.max_searches),
            )
        except LiveTurnExists:
            return self._queue(chat, client_id, chat.max_searches, files)
        self.asked.append((chat, text, client_id, turn, files))
        self._it_was_said_before(said, turn)
        self._come_to(turn, comes_to)

    @rule(which=WHICH, outcome=st.sampled_from(Claude.OUTCOMES), tokens=TOKENS, visible=st.booleans())
    def ask_and_be_answered(self, which, outcome, tokens, visible):
        before = len(self.workers)
        self.ask(which, 400, "posted")
        if len(self.workers) > before:
            self.go_on(before, outcome, tokens, visible)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, words=st.sampled_from([1, 400]), comes_to=st.sampled_from(["posted", ""]))
    def edit(self, which, words, comes_to):
        """Ask differently: beside the old question, with its files."""
        if turn := self._turn(which):
            chat = self._fresh(turn.conversation)
            with suppress(LiveTurnExists):
                edited = submission.ask(chat, "other " * words, uuid.uuid4(), effort="quick", instead_of=turn.question)
                self._come_to(edited, comes_to)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, model=st.sampled_from([SONNET, HAIKU]))
    def retry_with(self, which, model):
        if turn := self._turn(which):
            with suppress(LiveTurnExists):
                self._hear(
                    submission.ask_again(self._fresh(turn.conversation), turn.question, uuid.uuid4(), model=model)
                )

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def show_another_branch(self, which):
        if turn := self._turn(which):
            self._fresh(turn.conversation).select(turn.reply)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, anew=st.booleans())
    def press_again(self, which, anew):
        """The same Send once more, or Try again below the answer."""
        chat, text, client_id, turn, files = self._of(self.asked, which)
        if Turn.objects.filter(id=turn.id).exists():
            if anew:
                with suppress(LiveTurnExists):
                    self._hear(submission.ask_again(chat, turn.question, uuid.uuid4()))
            else:
                before = UsageRecord.objects.count()
                assert submission.ask(chat, text, client_id, effort="quick", attachments=files).id == turn.id
                assert UsageRecord.objects.count() == before

    @precondition(lambda self: self.queued)
    @rule(which=WHICH)
    def withdraw_what_waits(self, which):
        """Back into the composer."""
        waiting = list(NextMessage.objects.select_related("conversation__owner").order_by("id"))
        if waiting:
            taken = self._of(waiting, which)
            assert next_messages.withdraw(taken.conversation, taken.client_id, "", []).client_id == taken.client_id
            assert next_messages.withdraw(taken.conversation, taken.client_id, "", []) is None
            self.withdrawn.add(taken.client_id)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def stop(self, which):
        if (turn := self._turn(which)) and submission.stop(Turn.objects.filter(id=turn.id)):
            next_messages.go_on(turn.conversation_id)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def delete_a_conversation(self, which):
        chat = self._of(self.chats, which)
        self.chats[self.chats.index(chat)] = self._chat(chat.owner)
        chat.delete()

    @rule(which=WHICH, words=st.sampled_from([0, 20, 300]), in_all_chats=st.booleans())
    def change_instructions(self, which, words, in_all_chats):
        """At any moment, also between the hold and the claim."""
        chat, rules = self._of(self.chats, which), "rule " * words
        if in_all_chats:
            User.objects.filter(id=chat.owner_id).update(instructions=rules)
        else:
            Conversation.objects.filter(id=chat.id).update(system_prompt=rules)

    # --- Summaries

    @rule(which=WHICH, begins_a_chat=st.booleans(), is_heard=st.booleans())
    def summarise(self, which, begins_a_chat=False, is_heard=True):
        summary = summaries.ask_for(self._one_of(self.chats, which), begins_a_chat=begins_a_chat)
        if summary:
            Summary.objects.filter(id=summary.id, state="waiting").update(created_at=Now())
        if summary and is_heard:
            self._hear(summary)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def ring_again_for_a_summary(self, which):
        """For any, also for one that a worker has, and for one that is over."""
        if found := list(Summary.objects.order_by("id")):
            self._hear(self._of(found, which))

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, in_use=st.booleans())
    def use_a_summary(self, which, in_use):
        if found := list(Summary.objects.filter(state="done").order_by("id")):
            Summary.objects.filter(id=self._of(found, which).id).update(in_use=in_use)

    @precondition(lambda self: any(worker.listening for worker in self.workers))
    @rule(which=WHICH, is_heard=st.booleans())
    def stop_a_summary(self, which, is_heard=True):
        if live := list(Summary.objects.live().order_by("id")):
            summaries.stop(self._of(live, which))
        for worker in self.workers if is_heard else []:
            worker.look(self.clock)

    # --- Workers and Claude

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def ring_again(self, which):
        """For any turn, also for one that a worker has, and for one that is over."""
        if turn := self._turn(which):
            self._hear(turn)

    @precondition(lambda self: self.workers)
    @rule(which=WHICH, outcome=st.sampled_from(Claude.OUTCOMES), tokens=TOKENS, visible=st.booleans())
    def go_on(self, which, outcome, tokens=0, visible=True):
        worker = self._of(self.workers, which)
        if worker in self._writing and tokens:
            self._write(worker, tokens, visible)
        self._go_on(worker, outcome)

    @precondition(lambda self: self.workers)
    @rule(which=WHICH, tokens=TOKENS)
    def go_on_to_the_end(self, which, tokens=0):
        worker = self._of(self.workers, which)
        self._to_the_end(worker, tokens)
        self.workers.remove(worker)

    @precondition(lambda self: self._writing)
    @rule(which=WHICH, tokens=TOKENS, visible=st.booleans(), noted=st.booleans())
    def claude_writes(self, which, tokens, visible, noted=False):
        worker = self._of(self._writing, which)
        self._write(worker, tokens, visible)
        if noted:
            worker.look(self.clock)

    @precondition(lambda self: any(worker.post.searches_left for worker in self._writing))
    @rule(which=WHICH)
    def claude_searches(self, which):
        """Where it may."""
        worker = self._of([worker for worker in self._writing if worker.post.searches_left], which)
        self.clock.move(1)
        if self._is_kept(worker):
            worker.post.search()

    @rule(counts=st.booleans())
    def claude_counts(self, counts):
        """Whether `count_tokens` is to be had."""
        self.claude.counts = counts

    @precondition(lambda self: self.workers)
    @rule(which=WHICH)
    def keeper_looks(self, which):
        self._of(self.workers, which).look(self.clock)

    @precondition(lambda self: self.workers)
    @rule(which=WHICH, tokens=TOKENS, visible=st.booleans())
    def kill(self, which, tokens=0, visible=True):
        worker = self._of(self.workers, which)
        if worker in self._writing:
            self._write(worker, tokens, visible)
        self.workers.remove(worker)
        worker.die()

    # --- Time, and those who clean up

    @precondition(lambda self: self.asked)
    @rule(seconds=st.sampled_from([1, 4, 4, 130, A_LONG_WHILE, NEXT_MONTH]), kept=st.booleans(), swept=st.booleans())
    def time_passes(self, seconds, kept, swept=False):
        """With or without the workers' keepers, who renew the leases."""
        if seconds == NEXT_MONTH:
            self.clock.now = window("month", self.clock.now)[1]
            seconds = 0.5
        self.clock.move(seconds)
        for worker in self.workers if kept else []:
            worker.look(self.clock)
        if swept:
            self.sweep()

    def sweep(self):
        sent = set(UsageRecord.objects.filter(state=SENT).values_list("id", flat=True))
        self.sweeper.sweep()
        self.swept |= sent & set(UsageRecord.objects.filter(state=SETTLED).values_list("id", flat=True))
        assert not UsageRecord.objects.filter(state=HELD).exclude(turn__state__in=Turn.LIVE).exists()
        assert not Turn.objects.filter(state="running", lease_until__lt=Now()).exists()
        assert not NextMessage.objects.filter(held_back="").exclude(waits_for__state__in=Turn.LIVE).exists()

    # --- Administrators

    @rule(which=WHICH, kind=st.sampled_from(["personal", "pot", "team", "own"]), dollars=DOLLARS, raised=st.booleans())
    def set_a_limit(self, which, kind, dollars, raised):
        person = self._of(self.people, which)
        amount = nano(dollars)
        if kind == "personal":
            self._limit("personal", person.pk, amount, raised=raised, user=person)
        elif kind == "own":
            self._limit("own", person.pk, amount, period="day", user=person)
        else:
            whose, group = ("team", self.team) if kind == "team" else ("all", None)
            self._limit("pot", whose, 2 * amount, raised=raised, group=group)

    @rule(which=WHICH, share=st.sampled_from([-100, -50, 1, 100]))
    def correct(self, which, share):
        settled = UsageRecord.objects.filter(state=SETTLED).order_by("admitted_at", "id")
        if settled:
            record = self._of(list(settled), which)
            amount = record.cost * share // 100
            spend.adjust(record, amount, actor=User.objects.get(username="ada"), reason="The invoice says so")
            self.corrections[record.id] = self.corrections.get(record.id, 0) + amount

    # --- What must be true after each step

    @invariant()
    def every_promise_is_kept(self):
        if self.written:
            self.written = False
            self._check()

    def _come_to_rest(self) -> None:
        """Everybody dies; who comes after them finishes what waits, and what nobody can finish is swept up."""
        for worker in self.workers:
            worker.die()
        self.clock.move(4)
        for _ in range(2):
            self.sweep()
            while waiting := list(Turn.objects.filter(state="queued")):
                for turn in waiting:
                    worker = Worker(turns.run, turn.id)
                    self.workers.append(worker)
                    self._to_the_end(worker)
            self.clock.move(A_LONG_WHILE)
        self.sweep()
        assert not Turn.objects.live().exists()
        assert not Summary.objects.live().exists()
        assert not NextMessage.objects.filter(held_back="").exists()
        assert not UsageRecord.objects.filter(state__in=UsageRecord.OPEN).exists()
        assert not BudgetPeriod.objects.exclude(held=0).exists()
        self._check()

    @property
    def _writing(self) -> list[Worker]:
        """Those whose answers come word by word: a title comes whole."""
        return [w for w in self.workers if w.waits_for == "posted" and w.post.record.purpose != "title"]

    def _write(self, worker: Worker, tokens: int, visible: bool) -> None:
        post = worker.post
        post.begin()
        self.clock.move(tokens / TOKENS_PER_SECOND)
        if self._is_kept(worker):
            post.generate(tokens, visible=visible)
            if post.run:
                post.run.next_entry()

    def _is_kept(self, worker: Worker) -> bool:
        """Only as long as the lease: what is written for a process that hangs for longer is nobody's to know. Of a
        summary all that may be written is taken as written."""
        if (run := worker.post.run) is None:
            return True
        return Turn.objects.filter(id=run.turn_id, attempt=run.attempt, lease_until__gte=Now()).exists()

    def _note_writes(self, execute, sql, *args):
        self.written = self.written or not sql.startswith(("SELECT", "SAVEPOINT", "RELEASE"))
        return execute(sql, *args)

    def _of(self, things: list, which: int):
        return things[which % len(things)]

    def _one_of(self, chats: list[Conversation], which: int) -> Conversation:
        return self._fresh(self._of(chats, which))

    def _fresh(self, chat: Conversation) -> Conversation:
        """As a request reads it."""
        return Conversation.objects.select_related("owner").get(id=chat.id)

    def _chat(self, person: User) -> Conversation:
        return person.conversations.create(model=SONNET)

    def _long_chat(self, person: User) -> Conversation:
        """Two more exchanges than are always sent as they are, and too many words for all to be sent."""
        chat = self._chat(person)
        for _ in range(3):
            say(chat, "word " * 200, "word " * 300)
        return chat

    def _file(self, chat: Conversation, kind: str) -> Attachment:
        facts, data = FILES[kind]
        name = f"machine/{kind}"
        if data and not default_storage.exists(name):
            default_storage.save(name, ContentFile(data))
        size = len(data or b"")
        return chat.owner.attachments.create(name=kind, file=name, size=size, sent_size=size, sha256="0", **facts)

    def _queue(self, chat: Conversation, client_id, searches: int, files: list[Attachment]) -> None:
        assert chat.turns.live().exists()
        text = f"next {len(self.queued)}"
        choice = {"model": SONNET, "effort": "quick", "max_searches": searches}
        for _ in range(2):  # a double click
            try:
                next_messages.queue(chat, text, client_id, attachments=[str(file.id) for file in files], **choice)
            except next_messages.Occupied:
                return
            self.queued[client_id] = (chat.id, text)

    def _it_was_said_before(self, said: Foresight, turn: Turn) -> None:
        held = turn.usage_records.filter(state=HELD).first()
        assert said.at_most == (held.held if held else None)
        assert said.fitted_to == (held.max_tokens if held and held.fitted else None)
        assert bool(said.refusal) == (turn.state == Turn.State.FAILED)
        assert said.in_doubt == (held is None and not said.refusal)

    def _turn(self, which: int) -> Turn | None:
        """One of the latest turns."""
        latest = Turn.objects.select_related("conversation__owner", "question", "reply").order_by("-created_at")[:8]
        return self._of(list(latest), which) if latest else None

    def _come_to(self, turn: Turn, place: str) -> None:
        if place:
            self._hear(turn)
        if place == "posted" and self.workers and self.workers[-1].ordered == turn.id:
            self._go_on(self.workers[-1])

    def _hear(self, ordered: Turn | Summary) -> None:
        """A worker hears the bell. It stands still as soon as it has it, or is gone again if it does not."""
        worker = Worker(turns.run if isinstance(ordered, Turn) else summaries.write, ordered.id)
        self.workers.append(worker)
        self._go_on(worker)

    def _go_on(self, worker: Worker, outcome: str = "") -> None:
        worker.go_on(outcome)
        if worker.dead:
            self.workers.remove(worker)

    def _to_the_end(self, worker: Worker, tokens: int = 0) -> None:
        while not worker.dead:
            if tokens and worker in self._writing:
                self._write(worker, tokens, True)
            worker.go_on("end_turn")

    def _limit(self, kind: str, whose, amount: int, *, raised=False, period="month", **scope) -> None:
        until = self.clock.now + timedelta(hours=1) if raised else None
        self.limits.append(Limit(kind, whose, amount, period, until))
        Budget.objects.create(
            kind="pot" if kind == "pot" else "personal",
            limit=amount,
            period=period,
            valid_until=until,
            set_by_self=kind == "own",
            **scope,
        )


@pytest.mark.django_db
@pytest.mark.usefixtures("alice", "bob", "ada")
@pytest.mark.timeout(0 if longer else 120)
def test_whatever_happens_to_turns_and_workers_no_cent_is_lost_lent_or_paid_twice():
    run_state_machine_as_test(MoneyMachine, settings=thorough)
