"""What the form under a conversation needs to know."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from chat import budgets, catalogue, drafts, files, pricing, spend
from chat.claude.bounds import PER_REQUEST, PER_SEARCH_TOOL
from chat.forms import LONGEST_TEXT
from chat.models import Attachment, Conversation, Price, User
from chat.models.conversation import Effort
from chat.money import spoken
from chat.pricing import Terms

EFFORT_WORDS = {
    Effort.QUICK: "Hardly thinks: fast, and costs least",
    Effort.BALANCED: "Thinks where it helps",
    Effort.DEEP: "Thinks long before it answers: slower, and costs most",
}


@dataclass(frozen=True)
class Choice:
    """What the next message will be asked with."""

    model: str
    effort: str
    search: bool


def composer(
    person: User,
    action: str,
    conversation: Conversation | None,
    *,
    text: str = "",
    error: str = "",
    chosen: Mapping | None = None,
    standing: dict | None = None,
    attached: list[Attachment] | None = None,
) -> dict:
    """What the form needs: a client id of its own, the models with their prices, what stands in it and is chosen.

    `chosen` is what was sent and is refused, `attached` the files that came with it; `standing` is the limit that will
    be reached first.
    """
    draft = drafts.of(person, conversation)
    choice = _choice(person, conversation, chosen)
    models = model_choices(choice.model, standing)
    return {
        "action": action,
        "draft_url": reverse("draft", args=[conversation.id]) if conversation else reverse("new-draft"),
        "longest": LONGEST_TEXT,
        "client_id": uuid.uuid4(),
        "seen": (chosen or {}).get("seen", "") if text else draft.mark,
        "text": text or draft.text,
        "files": files.unsent(person, draft.attachments) if attached is None else attached,
        "error": error,
        "models": models,
        "efforts": [
            {"value": e.value, "label": e.label, "words": EFFORT_WORDS[e], "selected": e == choice.effort}
            for e in Effort
        ],
        "search": choice.search,
        "searching": next((model for model in models if model["selected"]), models[0]),
        "most_searches": settings.SEARCHES_PER_ANSWER,
    }


def model_choices(chosen: str, standing: dict | None = None) -> list[dict]:
    """The models that are offered, with their prices."""
    offered = catalogue.offered()
    prices = Price.objects.current_of([model.id for model in offered], timezone.now())
    left = standing["left"] if standing else None
    return [_model_choice(model, chosen, prices.get(model.id), left) for model in offered]


def searches(*, wanted: bool) -> int:
    """How often an answer may search the web."""
    return settings.SEARCHES_PER_ANSWER if wanted else 0


def standing(user) -> dict | None:
    """The limit that will be reached first, a pot or one's own, for the line below the composer."""
    tightest = budgets.standings(user)[0]
    if tightest.limit is None:  # limits that only warn come last
        return None
    return {
        "limit": tightest.limit,
        "spent": tightest.spent,
        "held": tightest.held,
        "left": tightest.left,
        "percent_used": tightest.percent_used,
        "period": tightest.period,
        "resets_words": f"resets on {budgets.day_words(tightest.resets_at)}",
        "source_words": tightest.source_words,
        "pot_words": "" if tightest.account.is_personal else tightest.source_words,
    }


def _choice(person: User, conversation: Conversation | None, sent: Mapping | None) -> Choice:
    if sent and sent.get("model"):
        return Choice(sent["model"], sent.get("effort", ""), bool(sent.get("search")))
    if conversation:
        return Choice(conversation.model, conversation.effort, conversation.max_searches > 0)
    last = person.conversations.order_by("-updated_at").only("model", "effort").first()
    if last and catalogue.is_offered(last.model):
        return Choice(last.model, last.effort, search=False)
    return Choice(catalogue.default().id, Effort.BALANCED, search=False)


def _model_choice(model: catalogue.ClaudeModel, chosen: str, price: Price | None, left: int | None) -> dict:
    usable = price is not None and price.is_usable
    words = f"{_per_million(price.input)} in, {_per_million(price.output)} out per million" if usable and price else ""
    searches, why_not = _searching(model, price if usable else None, left)
    return {
        "id": model.id,
        "maker": "Claude" if model.name.startswith("Claude ") else "",
        "short_name": model.name.removeprefix("Claude "),
        "blurb": model.blurb,
        "price_words": words,
        "selected": model.id == chosen,
        "unavailable_why": "" if usable else "has no price yet",
        "searches": searches,
        "no_search_why": why_not,
    }


def _searching(model: catalogue.ClaudeModel, price: Price | None, left: int | None) -> tuple[str, str]:
    """What a search takes, or why there is none: one of them is empty."""
    most = settings.SEARCHES_PER_ANSWER
    if not model.searches_the_web or price is None:
        return "", f"{model.name} cannot search the web."
    least = Terms(input_bound=PER_REQUEST + PER_SEARCH_TOOL, searches=most)
    numbers = price.numbers()
    if left is not None and pricing.worst_case(numbers, least, spend.LEAST_TOKENS) > left:
        return "", f"Your budget does not hold an answer of {model.name} that searches the web."
    fee = spoken(numbers.get("search", 0) // 1000)
    return f"Up to {most} searches for each answer, {fee} each and what Claude reads of them.", ""


def _per_million(nano: int) -> str:
    return spoken(nano).removesuffix(".00")
