"""What the web does for a turn: make it with the money for its first call, and stop it."""

from collections.abc import Callable

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from chat import alarms, budgets, catalogue, doorbell, pricing, spend, warnings
from chat.claude.request import request_for, terms_of
from chat.models import Conversation, Message, Price, Turn, UsageRecord
from chat.models.turn import TurnQuerySet

log = structlog.get_logger(__name__)


def ask(conversation: Conversation, text: str, client_id, *, model: str = "", effort: str = "") -> Turn:
    """Question, reply, turn and hold in one transaction, then the bell. Raises as `Conversation.start_turn`.

    Where the money is certain not to do, the turn comes back FAILED, with the figures of the refusal in `detail`.
    """
    return _submitted(lambda: conversation.start_turn(text, client_id, model=model, effort=effort))


def ask_again(conversation: Conversation, question: Message, client_id) -> Turn:
    """The same for another answer to a question."""
    return _submitted(lambda: conversation.retry_turn(question, client_id))


@transaction.atomic
def stop(turns: TurnQuerySet) -> int:
    """Stop these turns. Those that waited end here, their money is let go, and their number is returned."""
    ended = turns.stop()
    held = UsageRecord.objects.filter(turn__in=turns, turn__state=Turn.State.STOPPED, state=UsageRecord.State.HELD)
    for record in held:
        spend.void(record)
    return ended


def refused(over: spend.OverBudget) -> dict:
    """What the words of a refusal need, as figures in nano-dollars. A limit that is used up by it is noted."""
    if over.is_used_up:
        warnings.note_refusal(over.period)
    account, period = over.account, over.period
    offered = catalogue.offered()
    prices = Price.objects.current_of([model.id for model in offered], timezone.now())

    def holds(model: catalogue.ClaudeModel) -> bool:
        price = prices.get(model.id)
        if price is None or not price.is_usable:
            return False
        return pricing.worst_case(price.numbers(), over.call.terms, spend.LEAST_TOKENS) <= over.left

    return {
        "spent": period.spent,
        "held": period.held,
        "limit": account.limit,
        "left": over.left,
        "account": account.key,
        "period": account.period,
        "period_words": f"this {account.period}",
        "source": account.source,
        "resets": budgets.day_words(account.end),
        "fits": [model.name for model in offered if holds(model)],
    }


def call_of(turn: Turn, terms: pricing.Terms, wanted_tokens: int) -> spend.Call:
    """A turn's call for its reply."""
    return spend.Call(
        user=turn.user,
        purpose=UsageRecord.Purpose.REPLY,
        model=turn.model,
        terms=terms,
        wanted_tokens=wanted_tokens,
        turn=turn,
    )


def no_price(model: str) -> None:
    alarms.sound("no_price", "The model has no usable price, so nothing is sent to it. Add one.", subject=model)


@transaction.atomic
def _submitted(start: Callable[[], Turn]) -> Turn:
    turn = start()
    if turn.is_new:
        _hold(turn)
    if turn.state == Turn.State.QUEUED:
        # The row is committed or it is not; the bell is rung after that and can fail without harm.
        transaction.on_commit(lambda: doorbell.ring(turn.id), robust=True)
    return turn


def _hold(turn: Turn) -> None:
    request = request_for(turn)
    try:
        spend.hold(call_of(turn, terms_of(request, turn), request.wanted_tokens))
    except spend.Unpriceable:
        no_price(turn.model)
        _fail(turn, "no_price")
    except spend.OverBudget as over:
        # In doubt the worker asks Claude how long the prompt really is.
        if over.is_certain:
            _fail(turn, "over_budget", refused(over))


def _fail(turn: Turn, error: str, detail: dict | None = None) -> None:
    turn.state, turn.error, turn.detail = Turn.State.FAILED, error, detail or {}
    Turn.objects.filter(id=turn.id).update(state=turn.state, error=turn.error, detail=turn.detail, finished_at=Now())
