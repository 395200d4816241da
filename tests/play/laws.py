"""What has to be true of the machine's world after each step, told apart from how the product keeps it."""

from datetime import datetime

from chat import audit
from chat.models import BudgetPeriod, Conversation, LedgerEntry, Message, NextMessage, Summary, Turn, UsageRecord, User
from chat.periods import window

HELD, SENT, SETTLED, VOID = UsageRecord.State.values
EXACT = UsageRecord.Confidence.EXACT


class Limit:
    """A limit as an administrator means it: told apart from how the product keeps it."""

    def __init__(self, kind: str, whose, amount: int, period: str, until: datetime | None):
        self.kind, self.whose, self.amount, self.period, self.until = kind, whose, amount, period, until

    def concerns(self, person: User) -> bool:
        return self.whose == person.pk or self.whose == "all" or (self.whose == "team" and person.username == "alice")


class Laws:
    """Of a machine with `claude`, `people`, `team`, `limits` and `corrections`; with what was `queued` and `withdrawn`;
    and with what the laws have `seen` of each call."""

    def _check(self) -> None:
        assert audit.problems() == []
        assert not Turn.objects.filter(error="internal").exists()
        assert not Summary.objects.filter(error="internal").exists()
        records = {record.id: record for record in UsageRecord.objects.prefetch_related("entries", "user")}
        self._every_account_is_the_sum_of_its_calls(records.values())
        for record in records.values():
            if record.id not in self.seen:
                self._nothing_was_admitted_over_a_limit(record, records.values())
            self._no_call_changes_its_period(record)
        self._claudes_invoice_is_what_is_charged(records)
        self._no_answer_is_paid_twice(records.values())
        self._each_summary_is_one_call(records)
        self._what_waits_is_sent_once()

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
            if record.state == SETTLED and record.confidence == EXACT:
                assert charged == post.billed <= record.held
            elif record.state == SETTLED:
                assert post.billed <= charged <= record.held
            elif record.state == VOID:
                assert post.billed == 0
        # Nobody but an administrator corrects what its own worker has closed.
        by_itself = LedgerEntry.objects.filter(kind="adjust", actor="", record__isnull=False)
        assert set(by_itself.values_list("record", flat=True)) <= self.swept

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

    def _each_summary_is_one_call(self, records: dict) -> None:
        """And is read only where Claude has finished it."""
        written = list(Summary.objects.exclude(record=None))
        called = [record.id for record in records.values() if record.purpose == "summary" and record.conversation_id]
        assert sorted(called) == sorted(summary.record_id for summary in written)
        for summary in Summary.objects.filter(state=Summary.State.DONE):
            record = records[summary.record_id]
            assert (record.state, record.confidence) == (SETTLED, EXACT)

    def _what_waits_is_sent_once(self) -> None:
        if not self.queued:
            return
        there = set(Conversation.objects.values_list("id", flat=True))
        waiting = list(NextMessage.objects.values_list("client_id", flat=True))
        asked = list(Message.objects.filter(role="user").values_list("text", flat=True))
        for client_id, (chat_id, text) in self.queued.items():
            if chat_id in there:
                assert (client_id in self.withdrawn) + waiting.count(client_id) + asked.count(text) == 1, text

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
