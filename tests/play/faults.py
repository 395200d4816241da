"""Faults of the real code, each put in by a patch: somebody could write them some day."""

import uuid
from contextlib import suppress
from dataclasses import replace

from django.db.models import F
from django.db.models.functions import Now

from chat import calls, foresight, next_messages, pricing, spend, submission, summaries, sweeper
from chat.claude import ClaudeError, sizes
from chat.ids import uuid7
from chat.models import BudgetPeriod, LedgerEntry, NextMessage, Turn, UsageRecord
from chat.models.summary import SummaryQuerySet
from chat.models.turn import TurnQuerySet
from chat.pricing import SEARCH_TOKENS
from chat.spend import admission, settlement


def the_fence_ignores_the_attempt(patch):
    patch.setattr(TurnQuerySet, "held_by", lambda self, turn: self.filter(id=turn.id))


def a_call_is_closed_whatever_its_state(patch):
    patch.setattr(settlement, "_close", _close_blindly)


def a_call_is_closed_whatever_its_state_and_its_entries_have_no_keys(patch):
    made = settlement.entries

    def entries(*args, **why):
        found = made(*args, **why)
        for entry in found:
            entry.key = str(uuid.uuid4())
        return found

    patch.setattr(settlement, "entries", entries)
    patch.setattr(settlement, "_close", _close_blindly)


def a_call_is_charged_where_it_ends_and_not_where_it_began(patch):
    def close(record, state, cost, columns):
        now = UsageRecord.objects.annotate(now=Now()).values_list("now", flat=True)[0]
        today = BudgetPeriod.objects.filter(start__lte=now, end__gt=now, account=f"user:{record.user_id}")
        return _close_blindly(record, state, cost, columns, list(today))

    patch.setattr(settlement, "_close", close)


def budgets_are_looked_at_and_then_added_to(patch):
    """Somebody else's hold comes between the look and the update, which has no condition any more."""
    _somebody_comes_between(patch)
    patch.setattr(admission, "_hold", _add)


def budgets_are_not_locked(patch):
    """The update's condition stands alone then: nobody passes a limit, and the call fails."""
    _somebody_comes_between(patch)


def what_is_held_does_not_count(patch):
    patch.setattr(admission, "_left", lambda period: (period.limit or 0) - period.spent)
    patch.setattr(admission, "_hold", _add)


def pots_are_forgotten(patch):
    found = admission.accounts_for
    patch.setattr(admission, "accounts_for", lambda *args: [account for account in found(*args) if account.is_personal])


def the_sweeper_queues_again_what_was_sent(patch):
    def recover(turn):
        Turn.objects.filter(id=turn.id, state="running").update(state="queued", lease_until=None)

    patch.setattr(sweeper, "recover", recover)


def stop_forgets_the_money(patch):
    patch.setattr(submission, "stop", lambda turns: turns.stop())


def what_may_have_been_billed_is_given_back(patch):
    made = ClaudeError.__init__
    patch.setattr(ClaudeError, "__init__", lambda self, kind, **facts: made(self, kind, **{**facts, "unbilled": True}))


def silence_costs_nothing(patch):
    patch.setattr(pricing, "hidden_tokens", lambda seconds: 0)


def what_is_held_can_be_charged_without_having_been_sent(patch):
    def send(record, turn):
        return record

    patch.setattr(spend, "send", send)


def summaries_are_not_admitted(patch):
    def not_admitted(conversation, request):
        return UsageRecord(id=uuid7(), user=conversation.owner, model=request.model, max_tokens=request.wanted_tokens)

    patch.setattr(summaries, "_admit", not_admitted)


def summaries_hold_nothing(patch):
    admit = spend.admit
    nothing = {"terms": pricing.Terms(input_bound=0), "wanted_tokens": 0}
    patch.setattr(spend, "admit", lambda call: admit(replace(call, **nothing) if call.purpose == "summary" else call))


def a_summary_that_is_closed_is_estimated_once_more(patch):
    settle = calls.settle
    patch.setattr(calls, "settle", lambda *args: settle(*args) and False)


def a_summary_is_written_again_when_its_worker_dies(patch):
    give_up = SummaryQuerySet.give_up

    def begin_again(self) -> int:
        return self.filter(state="writing").update(state="waiting") or give_up(self)

    patch.setattr(SummaryQuerySet, "give_up", begin_again)


def pictures_have_no_pixels(patch):
    bound = sizes._of_block

    def of_block(block, model, expected):
        return sizes.PER_FILE if block["type"] == "image" else bound(block, model, expected)

    patch.setattr(sizes, "_of_block", of_block)


def a_pdf_has_what_its_pages_have_as_a_rule(patch):
    bound = sizes._of_block
    patch.setattr(sizes, "_of_block", lambda block, model, expected: bound(block, model, True))


def the_fee_of_searches_is_not_held(patch):
    worst_case = pricing.worst_case
    patch.setattr(pricing, "worst_case", lambda numbers, *args: worst_case({**numbers, "search": 0}, *args))


def what_is_found_is_read_only_once(patch):
    patch.setattr(pricing.Terms, "prompt", lambda terms, output: terms.input_bound + terms.searches * SEARCH_TOKENS)


def foresight_forgets_the_files(patch):
    made = foresight.Asked.__init__
    patch.setattr(foresight.Asked, "__init__", lambda self, *args: made(self, *args[:4]))


def foresight_forgets_the_searches(patch):
    made = foresight.Asked.__init__
    patch.setattr(foresight.Asked, "__init__", lambda self, *args: made(self, *args[:3], 0, *args[4:]))


def what_waits_is_sent_and_waits_on(patch):
    ask = submission.ask

    def anew(conversation, text, client_id, **choice):
        return ask(conversation, text, uuid.uuid4() if "after" in choice else client_id, **choice)

    patch.setattr(submission, "ask", anew)
    patch.setattr(NextMessage, "delete", lambda waiting: None)


def what_waits_is_forgotten(patch):
    patch.setattr(next_messages, "go_on", lambda chat: NextMessage.objects.filter(conversation=chat).delete())


def _close_blindly(record, state, cost, columns, periods=None):
    UsageRecord.objects.filter(id=record.id).update(state=state, settled_at=Now(), **columns)
    if periods is None:
        periods = list(BudgetPeriod.objects.filter(entries__record=record, entries__kind="hold"))
    for period in periods:
        BudgetPeriod.objects.filter(id=period.id).update(held=F("held") - record.held, spent=F("spent") + cost)
    made = settlement.entries(record, periods, LedgerEntry.Kind.RELEASE, -record.held)
    if cost:
        made += settlement.entries(record, periods, LedgerEntry.Kind.CHARGE, cost)
    LedgerEntry.objects.bulk_create(made)
    return True


def _add(period, amount: int) -> None:
    BudgetPeriod.objects.filter(id=period.id).update(limit=period.limit, held=F("held") + amount)


def _somebody_comes_between(patch) -> None:
    look = admission._periods
    asking: list = []

    def look_without_a_lock(*args, **how):
        periods = look(*args, **how)
        if not asking:
            asking.append(args)
            turn = Turn.objects.latest("created_at")
            with suppress(spend.OverBudget):
                spend.admit(_title(turn))
        return periods

    patch.setattr(admission, "_periods", look_without_a_lock)


def _title(turn: Turn) -> spend.Call:
    """A call that takes most of what is in the pot."""
    terms = pricing.Terms(input_bound=100)
    return spend.Call(turn.user, "summary", turn.model, terms, 8_000, conversation_id=turn.conversation_id)
