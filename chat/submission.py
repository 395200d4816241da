"""What the web does for a turn: make it with the money for its first call, and stop it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from chat import alarms, budgets, catalogue, doorbell, pricing, spend, warnings
from chat.claude import Request, request_for, terms_of
from chat.models import Attachment, Conversation, Message, Price, Turn, UsageRecord, User
from chat.models.turn import TurnQuerySet
from chat.pricing import Terms

log = structlog.get_logger(__name__)


class NotOffered(Exception):
    """The conversation's model, or the one that was chosen, has been taken out of those that people may use."""

    words = "This model is not offered any more. Choose another one."


class TooMuch(Exception):
    """More files than Claude takes in one request. The words are for whoever has attached them."""


def ask(
    conversation: Conversation,
    text: str,
    client_id,
    *,
    model: str = "",
    effort: str = "",
    instead_of: Message | None = None,
    after: Message | None = None,
    then: Callable[[Turn], object] | None = None,
    attachments: Sequence[Attachment] = (),
) -> Turn:
    """Question, reply, turn and hold in one transaction, then the bell.

    Raises as `Conversation.start_turn`, NotOffered, and TooMuch for files.

    Where the money is certain not to do, the turn comes back FAILED, with the figures of the refusal in `detail`.
    `then` belongs to the same transaction, where the turn is a new one.
    """

    def start() -> Turn:
        turn = conversation.start_turn(
            text,
            client_id,
            model=model,
            effort=effort,
            instead_of=instead_of,
            after=after,
            attachments=attachments,
        )
        if turn.is_new and attachments and (words := request_for(turn).excess):
            raise TooMuch(words)
        return turn

    return _submitted(start, conversation.owner, model or conversation.model, text, then)


def ask_again(conversation: Conversation, question: Message, client_id, *, model: str = "", effort: str = "") -> Turn:
    """The same for another answer to a question."""
    start = partial(conversation.retry_turn, question, client_id, model=model, effort=effort)
    return _submitted(start, conversation.owner, model or conversation.model, question.text)


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
    prices = _prices()
    if not over.period.held and not _fitting(prices, replace(over.call.terms, input_bound=0), over.left):
        warnings.note_refusal(over.period)
    return refusal(over, prices)


def refusal(over: spend.OverBudget, prices: dict[str, dict] | None = None) -> dict:
    """The figures alone, for somebody who has not sent anything yet."""
    account, period = over.account, over.period
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
        "fits": _fitting(_prices() if prices is None else prices, over.call.terms, over.left),
    }


def _prices() -> dict[str, dict]:
    """What the offered models cost, by their names; without those that have no usable price."""
    offered = catalogue.offered()
    prices = Price.objects.current_of([model.id for model in offered], timezone.now())
    known = {model.name: prices[model.id] for model in offered if model.id in prices}
    return {name: price.numbers() for name, price in known.items() if price.is_usable}


def _fitting(prices: dict[str, dict], terms: Terms, left: int) -> list[str]:
    """The names of the models that can still answer something for so many nano-dollars."""
    least = spend.LEAST_TOKENS
    return [name for name, numbers in prices.items() if pricing.worst_case(numbers, terms, least) <= left]


def call_of(turn: Turn, terms: Terms, wanted_tokens: int) -> spend.Call:
    """A turn's call for its reply."""
    return spend.Call(turn.user, UsageRecord.Purpose.REPLY, turn.model, terms, wanted_tokens, turn=turn)


def call_beside(conversation: Conversation, purpose: UsageRecord.Purpose, request: Request) -> spend.Call:
    """A call of a conversation that is no answer. Whole or not at all: half a title says something else, and half a
    summary would leave out what came last."""
    return spend.Call(
        user=conversation.owner,
        purpose=purpose,
        model=request.model,
        terms=terms_of(request),
        wanted_tokens=request.wanted_tokens,
        least_tokens=request.wanted_tokens,
        conversation_id=conversation.id,
    )


def no_price(model: str) -> None:
    alarms.sound("no_price", "The model has no usable price, so nothing is sent to it. Add one.", subject=model)


def _submitted(
    start: Callable[[], Turn], person: User, model: str, text: str, then: Callable[[Turn], object] | None = None
) -> Turn:
    if not catalogue.is_offered(model):
        raise NotOffered
    # Whoever has nothing left is told without waiting for the locks of all who have.
    shortest = Terms(input_bound=len(text) // spend.MOST_BYTES_PER_TOKEN)
    over = spend.foresee(spend.Call(person, UsageRecord.Purpose.REPLY, model, shortest, spend.LEAST_TOKENS))
    detail = refused(over) if over else {}
    with transaction.atomic():
        turn = start()
        if turn.is_new and over:
            _fail(turn, "over_budget", detail)
        elif turn.is_new:
            _hold(turn)
        if turn.is_new and then:
            then(turn)
        if turn.state == Turn.State.QUEUED:
            # The row is committed or it is not; the bell is rung after that and can fail without harm.
            transaction.on_commit(lambda: doorbell.ring(turn.id), robust=True)
    return turn


def _hold(turn: Turn) -> None:
    request = request_for(turn)
    if request.excess:
        return _fail(turn, "too_large", {})
    try:
        # The worker has what is in a PDF counted before it sends it, and holds more where that is needed.
        spend.hold(call_of(turn, terms_of(request, turn, expected=True), request.wanted_tokens))
    except spend.Unpriceable:
        no_price(turn.model)
        _fail(turn, "no_price", {})
    except spend.OverBudget as over:
        # In doubt the worker asks Claude how long the prompt really is.
        if over.is_certain:
            _fail(turn, "over_budget", refused(over))


def _fail(turn: Turn, error: str, detail: dict) -> None:
    turn.state, turn.error, turn.detail = Turn.State.FAILED, error, detail
    Turn.objects.filter(id=turn.id).update(state=turn.state, error=error, detail=detail, finished_at=Now())
