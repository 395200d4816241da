"""The state machine of a turn and its money: the real code, in any order, with every promise checked after each step.

Real are submission, claim, `turns.run` with its retries and pauses, spend, titles, the keeper's round and the sweeper.
Played are Claude, the bell and the database's clock. A worker is a greenlet, so that it can be left standing wherever
the real one waits, killed there, or woken when another has long taken its place. MONEY_EXAMPLES=10000 searches longer.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from math import inf
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models.functions import Now
from greenlet import GreenletExit, getcurrent, greenlet
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

from chat import audit, calls, doorbell, keeper, spend, streams, submission, titles, turns
from chat.claude import Answer, ClaudeError
from chat.keeper import Keeper
from chat.models import Budget, BudgetPeriod, Turn, UsageRecord, User
from chat.models.conversation import LiveTurnExists
from chat.money import nano
from chat.periods import window
from chat.prepared import Prepared
from chat.sweeper import Sweeper
from tests.books import HAIKU, SONNET, paris

HELD, SENT, SETTLED, VOID = UsageRecord.State.values
# Nano-dollars per token, in and out. What Claude's invoice is written with.
RATES = {SONNET: (2_000, 10_000), HAIKU: (100, 500)}
TOKENS_PER_SECOND = 250
# Longer than any call without a turn is left alone.
A_LONG_WHILE = 3_600

longer = os.environ.get("MONEY_EXAMPLES")
thorough = settings(
    max_examples=int(longer or 25),
    stateful_step_count=30,
    deadline=None,
    derandomize=not longer,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Clock:
    """The database's clock, which stands still until somebody moves it."""

    def __init__(self):
        self.now = paris(2026, 11, 30, 22, 0, 0, 500_000)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def __call__(self) -> float:
        return self.now.timestamp()

    def __str__(self) -> str:
        return str(connection.ops.adapt_datetimefield_value(self.now))

    def as_sql(self, *args, **kwargs) -> tuple[str, list]:
        return ("%s::timestamptz" if connection.vendor == "postgresql" else "%s"), [str(self)]


class KeeperByHand(Keeper):
    """The keeper of one worker: it makes its round when it is told to, and dies with its worker."""

    def __init__(self):
        super().__init__()
        self._beaten = inf

    def _main(self) -> None:
        """No thread."""

    def look(self, clock: Clock) -> None:
        if self._runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(keeper, "_CHECKPOINT", keeper._CHECKPOINT.replace("CURRENT_TIMESTAMP", f"'{clock}'"))
                self._round(clock())


class Worker(greenlet):
    """`turns.run` for one bell, standing still at `waits_for`: "claimed", "posted" or "between tries"."""

    def __init__(self, turn_id):
        super().__init__()
        self.turn_id, self.keeper = turn_id, KeeperByHand()
        self.waits_for, self.post = "", None

    def run(self, *_) -> None:
        turns.run(self.turn_id)

    def go_on(self, outcome: str = "") -> None:
        self.waits_for = self.switch(outcome)

    def die(self) -> None:
        """As by kill -9: not one line of its code runs any more."""
        self.throw(GreenletExit)


def wait_for_the_machine(reason: str) -> str:
    return getcurrent().parent.switch(reason)


class Post:
    """A request that reached Claude, what it has made of it, and what stands on the invoice for it."""

    def __init__(self, record: UsageRecord, prompt: int, max_tokens: int, clock: Clock):
        self.record, self.prompt, self.most, self.clock = record, prompt, max_tokens, clock
        self.answer, self.run = Answer(clock), None
        self.begun, self.output, self.billed = False, 0, 0
        assert prompt <= record.input_bound

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            usage = {"input_tokens": self.prompt, "output_tokens": 1}
            message = {"id": f"msg_{self.record.id}", "usage": usage}
            self.answer.feed({"type": "message_start", "message": message})
            block = {"type": "text", "text": ""}
            self.answer.feed({"type": "content_block_start", "index": 0, "content_block": block})
            self._bill()

    def generate(self, tokens: int, *, visible: bool) -> None:
        """As fast as any model can."""
        self.begin()
        tokens = min(tokens, self.most - self.output)
        self.output += tokens
        if visible and tokens:
            delta = {"type": "text_delta", "text": "word " * tokens}
            self.answer.feed({"type": "content_block_delta", "index": 0, "delta": delta})
        self._bill()

    def finish(self, stop_reason: str) -> None:
        self.begin()
        self.answer.feed({"type": "content_block_stop", "index": 0})
        usage = {"output_tokens": self.output}
        self.answer.feed({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage})
        self.answer.feed({"type": "message_stop"})
        if stop_reason == "refusal" and not self.output:
            self.billed = 0

    def _bill(self) -> None:
        dear_in, dear_out = RATES[self.record.model]
        self.billed = self.prompt * dear_in + self.output * dear_out


class Claude:
    """In the place of the engine, and of the client that the engine has."""

    FINISHED = ("end_turn", "max_tokens", "pause_turn", "refusal")
    REFUSED = {
        "busy": {"again": True, "retry_after": 0},
        "rate_limited": {"again": True, "retry_after": A_LONG_WHILE},
        "bad_request": {},
    }
    BROKEN = ("cut", "timeout")
    OUTCOMES = [*FINISHED, *REFUSED, *BROKEN]

    def __init__(self, clock: Clock):
        self.clock, self.posts = clock, []

    def show(self, run) -> None:
        wait_for_the_machine("claimed")

    def forget(self, run) -> None:
        pass

    def ask(self, call):
        return call(self)

    def wait(self, result):
        return result

    def count(self, request) -> int:
        texts = [block["text"] for message in request.messages for block in _blocks(message) if "text" in block]
        return sum(len(text.split()) for text in texts)

    def carry(self, run, request, max_tokens: int) -> Answer:
        post = self._posted(UsageRecord.objects.filter(turn=run.turn_id), request, max_tokens)
        post.run, run.answer = run, post.answer
        try:
            outcome = wait_for_the_machine("posted")
            if run.stopping.is_set():
                raise ClaudeError(run.why)
            self._end(post, outcome)
            return post.answer
        finally:
            post.answer.end()
            run.blocks += post.answer.blocks

    def complete(self, request, max_tokens: int) -> dict:
        titles_of_one = UsageRecord.objects.filter(purpose="title", conversation__turns=getcurrent().turn_id)
        post = self._posted(titles_of_one, request, max_tokens)
        self._end(post, wait_for_the_machine("posted"))
        return {"usage": post.answer.usage, "request_id": "", "content": post.answer.blocks}

    def _posted(self, records, request, max_tokens: int) -> Post:
        record = records.filter(state=SENT).latest("sent_at")  # whoever sends has written it down before
        post = Post(record, 30 + self.count(request), max_tokens, self.clock)
        self.posts.append(post)
        getcurrent().post = post
        return post

    def _end(self, post: Post, outcome: str) -> None:
        if outcome in self.FINISHED:
            return post.finish(outcome)
        if outcome in self.REFUSED and not post.begun:
            raise ClaudeError(outcome, unbilled=True, **self.REFUSED[outcome])
        raise ClaudeError("timeout" if outcome == "timeout" else "cut")


def _blocks(message: dict) -> list[dict]:
    content = message["content"]
    return [{"text": content}] if isinstance(content, str) else content


@contextmanager
def stage(clock: Clock, claude: Claude) -> Iterator[None]:
    """The real code, between the clock, the bell and the Claude of the play."""

    @contextmanager
    def away():
        wait_for_the_machine("between tries")
        yield

    with pytest.MonkeyPatch.context() as patch:
        for module in (turns, calls, titles):
            patch.setattr(module, "engine", lambda: claude)
        for module in (turns, titles):
            patch.setattr(module, "connection", SimpleNamespace(close=lambda: None))
        patch.setattr(turns, "keeper", lambda: getcurrent().keeper)
        patch.setattr(turns, "away", away)
        patch.setattr(streams, "end", lambda *_: None)
        patch.setattr(doorbell, "ring", lambda turn_id: True)
        for name in ("as_sql", "as_sqlite", "as_postgresql"):
            patch.setattr(Now, name, lambda now, *args, **kwargs: clock.as_sql())
        # A query that is kept would keep the moment at which it was written, here and in the tests after this one.
        patch.setattr(Prepared, "__call__", lambda query, *values: list(query._build(*values)))
        yield


class Limit:
    """A limit as an administrator means it: told apart from how the product keeps it."""

    def __init__(self, kind: str, whose, amount: int, period: str, until: datetime | None):
        self.kind, self.whose, self.amount, self.period, self.until = kind, whose, amount, period, until

    def concerns(self, person: User) -> bool:
        return self.whose == person.pk or self.whose == "all" or (self.whose == "team" and person.username == "alice")


WHICH = st.integers(0, 7)
TOKENS = st.sampled_from([0, 25, 500])
DOLLARS = st.sampled_from(["0", "0.003", "0.05", "0.1", "0.3", "1", "5"])
NEXT_MONTH = "next month"


class MoneyMachine(RuleBasedStateMachine):
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
        self.sweeper, self.workers, self.asked = Sweeper(), [], []
        self.limits: list[Limit] = []
        self.seen: dict = {}
        self.corrections: dict = {}
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

    @rule(which=WHICH, words=st.sampled_from([1, 400]), comes_to=st.sampled_from(["posted", "claimed", ""]))
    def ask(self, which, words, comes_to):
        chat, client_id = self._of(self.chats, which), uuid.uuid4()
        text = "word " * words
        try:
            turn = submission.ask(chat, text, client_id, effort="quick")
        except LiveTurnExists:
            assert chat.turns.live().exists()
            return
        self.asked.append((chat, text, client_id, turn))
        if comes_to:
            self._hear(turn)
        if comes_to == "posted" and self.workers and self.workers[-1].turn_id == turn.id:
            self._go_on(self.workers[-1])

    @rule(which=WHICH, outcome=st.sampled_from(Claude.OUTCOMES), tokens=TOKENS, visible=st.booleans())
    def ask_and_be_answered(self, which, outcome, tokens, visible):
        before = len(self.workers)
        self.ask(which, 1, "posted")
        if len(self.workers) > before:
            self.go_on(before, outcome, tokens, visible)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, anew=st.booleans())
    def press_again(self, which, anew):
        """The same Send once more, or Retry below the answer."""
        chat, text, client_id, turn = self._of(self.asked, which)
        if Turn.objects.filter(id=turn.id).exists():
            if anew:
                with suppress(LiveTurnExists):
                    self._hear(submission.ask_again(chat, turn.question, uuid.uuid4()))
            else:
                before = UsageRecord.objects.count()
                assert submission.ask(chat, text, client_id, effort="quick").id == turn.id
                assert UsageRecord.objects.count() == before

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def stop(self, which):
        if turn := self._turn(which):
            submission.stop(Turn.objects.filter(id=turn.id))

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def delete_a_conversation(self, which):
        chat = self._of(self.chats, which)
        self.chats[self.chats.index(chat)] = self._chat(chat.owner)
        chat.delete()

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
    @rule(which=WHICH)
    def go_on_to_the_end(self, which):
        worker = self._of(self.workers, which)
        while not worker.dead:
            worker.go_on("end_turn")
        self.workers.remove(worker)

    @precondition(lambda self: self._writing)
    @rule(which=WHICH, tokens=TOKENS, visible=st.booleans(), noted=st.booleans())
    def claude_writes(self, which, tokens, visible, noted=False):
        worker = self._of(self._writing, which)
        self._write(worker, tokens, visible)
        if noted:
            worker.keeper.look(self.clock)

    @precondition(lambda self: self.workers)
    @rule(which=WHICH)
    def keeper_looks(self, which):
        self._of(self.workers, which).keeper.look(self.clock)

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
            worker.keeper.look(self.clock)
        if swept:
            self.sweep()

    def sweep(self):
        self.sweeper.sweep()
        assert not UsageRecord.objects.filter(state=HELD).exclude(turn__state__in=Turn.LIVE).exists()
        assert not Turn.objects.filter(state="running", lease_until__lt=Now()).exists()

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

    def _check(self) -> None:
        assert audit.problems() == []
        assert not Turn.objects.filter(error="internal").exists()
        records = {record.id: record for record in UsageRecord.objects.prefetch_related("entries", "user")}
        self._every_account_is_the_sum_of_its_calls(records.values())
        for record in records.values():
            if record.id not in self.seen:
                self._nothing_was_admitted_over_a_limit(record, records.values())
            self._no_call_changes_its_period(record)
        self._claudes_invoice_is_what_is_charged(records)
        self._no_answer_is_paid_twice(records.values())

    def _every_account_is_the_sum_of_its_calls(self, records) -> None:
        for period in BudgetPeriod.objects.all():
            mine = [r for r in records if period.start <= r.admitted_at < period.end and self._counts(period, r)]
            assert period.spent == sum(record.cost for record in mine)
            assert period.held == sum(record.held for record in mine if record.state in UsageRecord.OPEN)

    def _nothing_was_admitted_over_a_limit(self, record: UsageRecord, records) -> None:
        for limit in self._limits_of(record.user, record.admitted_at):
            start, end = window(limit.period, record.admitted_at)
            used = sum(
                other.held if other.state in UsageRecord.OPEN else other.cost
                for other in records
                if start <= other.admitted_at < end and limit.concerns(other.user)
            )
            assert used <= limit.amount

    def _no_call_changes_its_period(self, record: UsageRecord) -> None:
        kinds: dict = {}
        for entry in record.entries.all():
            kinds.setdefault(entry.kind, set()).add(entry.period_id)
        admitted_at, held_in = self.seen.setdefault(record.id, (record.admitted_at, set()))
        assert record.admitted_at == admitted_at
        assert held_in <= kinds["hold"]
        assert kinds.get("release", kinds["hold"]) == kinds["hold"] == kinds.get("charge", kinds["hold"])
        held_in |= kinds["hold"]

    def _claudes_invoice_is_what_is_charged(self, records: dict) -> None:
        """An estimate is never below it; what is not charged was not billed; and whatever was sent is in the books."""
        assert len(self.claude.posts) == sum(record.sent_at is not None for record in records.values())
        for post in self.claude.posts:
            record = records[post.record.id]
            charged = record.cost - self.corrections.get(record.id, 0)
            if record.state == SETTLED and record.confidence == UsageRecord.Confidence.EXACT:
                assert charged == post.billed
            elif record.state == SETTLED:
                assert post.billed <= charged <= record.held
            elif record.state == VOID:
                assert post.billed == 0

    def _no_answer_is_paid_twice(self, records) -> None:
        replies: dict = {}
        for record in records:
            if record.purpose == UsageRecord.Purpose.REPLY and record.turn_id:
                replies.setdefault(record.turn_id, []).append(record)
        for calls_of_one in replies.values():
            assert sum(record.state in UsageRecord.OPEN for record in calls_of_one) <= 1
            unrepeatable = [r for r in calls_of_one if r.sent_at and r.state != VOID and r.stop_reason != "pause_turn"]
            assert len(unrepeatable) <= 1
        live = list(Turn.objects.live().values_list("conversation", flat=True))
        assert len(live) == len(set(live))

    def _come_to_rest(self) -> None:
        """Everybody dies; who comes after them finishes what waits, and what nobody can finish is swept up."""
        for worker in self.workers:
            worker.die()
        self.clock.move(4)
        self.sweeper.sweep()
        for turn in Turn.objects.filter(state="queued"):
            worker = Worker(turn.id)
            self.workers.append(worker)
            while not worker.dead:
                worker.go_on("end_turn")
        self.clock.move(A_LONG_WHILE)
        self.sweeper.sweep()
        assert not Turn.objects.live().exists()
        assert not UsageRecord.objects.filter(state__in=UsageRecord.OPEN).exists()
        assert not BudgetPeriod.objects.exclude(held=0).exists()
        self._check()

    @property
    def _writing(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.waits_for == "posted" and worker.post.run]

    def _write(self, worker: Worker, tokens: int, visible: bool) -> None:
        """Only as long as the lease: what is written for a process that hangs for longer is nobody's to know."""
        post = worker.post
        post.begin()
        self.clock.move(tokens / TOKENS_PER_SECOND)
        if Turn.objects.filter(id=post.run.turn_id, attempt=post.run.attempt, lease_until__gte=Now()).exists():
            post.generate(tokens, visible=visible)
            post.run.next_entry()

    def _note_writes(self, execute, sql, *args):
        self.written = self.written or not sql.startswith(("SELECT", "SAVEPOINT", "RELEASE"))
        return execute(sql, *args)

    def _of(self, things: list, which: int):
        return things[which % len(things)]

    def _chat(self, person: User):
        return person.conversations.create(model=SONNET)

    def _turn(self, which: int) -> Turn | None:
        """One of the latest turns."""
        latest = list(Turn.objects.select_related("conversation__owner", "question").order_by("-created_at")[:8])
        return self._of(latest, which) if latest else None

    def _hear(self, turn: Turn) -> None:
        """A worker hears the bell. It stands still as soon as it has the turn, or is gone again if it does not."""
        worker = Worker(turn.id)
        self.workers.append(worker)
        self._go_on(worker)

    def _go_on(self, worker: Worker, outcome: str = "") -> None:
        worker.go_on(outcome)
        if worker.dead:
            self.workers.remove(worker)

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

    def _limits_of(self, person: User, at: datetime) -> list[Limit]:
        """Of the personal ones, and of the pots of one scope, the newest counts, and before it the newest raise."""
        concerning = [
            limit for limit in self.limits if limit.concerns(person) and (not limit.until or limit.until > at)
        ]
        by_scope: dict = {}
        for limit in concerning:
            by_scope.setdefault((limit.kind, limit.whose), []).append(limit)
        found = []
        for (kind, _), alike in by_scope.items():
            raised = [limit for limit in alike if limit.until]
            if raised or kind == "personal":
                found.append((raised or alike)[-1])
            else:
                found += alike
        return found

    def _counts(self, period: BudgetPeriod, record: UsageRecord) -> bool:
        of_team = period.account == f"group:{self.team.pk}" and record.user_id == self.people[0].pk
        return period.account in ("everyone", f"user:{record.user_id}") or of_team


@pytest.mark.django_db
@pytest.mark.usefixtures("alice", "bob", "ada")
@pytest.mark.timeout(0 if longer else 120)
def test_whatever_happens_to_turns_and_workers_no_cent_is_lost_lent_or_paid_twice():
    run_state_machine_as_test(MoneyMachine, settings=thorough)
