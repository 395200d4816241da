"""What the next message will cost, before it is sent: about, and at most.

"At most" is the hold that would be made this instant, by the same functions; while an answer is being written, the hold
when that is there. "About" is an estimate: the prompt as `window` sees it, and an answer as long as the person's
usually are.
"""

from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median_low

from django.conf import settings
from django.utils import timezone

from chat import catalogue, pricing, spend, submission, window
from chat.catalogue import ClaudeModel
from chat.claude import Request, request_for, terms_of
from chat.claude.bounds import bound_of_messages
from chat.claude.request import WANTED_TOKENS
from chat.claude.sizes import excess
from chat.endings import ENDINGS, over_budget_words
from chat.models import Conversation, Message, Price, Turn, UsageRecord, User
from chat.past import past_of, with_its_answer
from chat.pricing import Usage
from chat.window import Prompt

# Tokens of an answer, thinking included, until a person has some of their own: what each effort tends to.
TYPICAL_OUTPUT = {"quick": 300, "balanced": 800, "deep": 2_500}
LATEST_ANSWERS, ENOUGH_ANSWERS = 50, 3
# The vendor's published trace of one search: its results, as they are read.
SEARCH_READS = 5_300
SUMMARY_WRITES = 800
# Another model is worth a word when it costs less than this part, and is cheaper by more than a cent.
CHEAPER_PART, CHEAPER_BY = 2, 10_000_000
# The meter is quiet below these: per cent of the window, nano-dollars of the next message.
FULL_ENOUGH, DEAR_ENOUGH = 25, 10_000_000
FULL = 50


@dataclass(frozen=True)
class Asked:
    """What stands in a composer. `blocks` are its files, as they would be sent."""

    text: str
    model: str
    effort: str
    searches: int = 0
    blocks: tuple[dict, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.text.strip() and not self.blocks


@dataclass(frozen=True)
class Cheaper:
    id: str
    name: str
    about: int


@dataclass(frozen=True)
class Meter:
    """How full the window is, and what the conversation costs with the next message. Tokens and nano-dollars.

    `is_cached`, it costs more a few minutes later; where it `will_be`, a message soon after the next one costs less.
    """

    tokens: int
    context: int
    cost: int
    is_cached: bool
    will_be_cached: bool
    summarise_about: int | None
    will_be_summarised: bool

    @property
    def percent(self) -> int:
        return round(100 * self.tokens / self.context)

    @property
    def is_full(self) -> bool:
        """So full that something has to be done about it."""
        return self.will_be_summarised or self.percent >= FULL

    @property
    def is_shown(self) -> bool:
        return self.percent >= FULL_ENOUGH or self.cost >= DEAR_ENOUGH


class Foresight:
    """The figures of a message that has not been sent, in nano-dollars. Reads only, in a few queries.

    `at_most` is no promise where `is_counted_first`, since more may have to be held once Claude has counted; nor where
    the message `waits` for an answer of which nobody knows yet how long it can be.
    """

    def __init__(self, person: User, conversation: Conversation | None, asked: Asked):
        self._person, self.asked = person, asked
        self._conversation = copy(conversation) if conversation else Conversation(owner=person)
        self._conversation.max_searches = asked.searches
        self._model = catalogue.find(asked.model)
        leaf = self._conversation.active_leaf_id
        words = asked.text if not asked.is_empty else "?"
        blocks = [*asked.blocks, *([{"type": "text", "text": words}] if words else [])]
        role = Message.Role.USER
        question = Message(conversation=self._conversation, role=role, parent_id=leaf, content=blocks, text=words)
        self._turn = Turn(
            conversation=self._conversation, user=person, question=question, model=asked.model, effort=asked.effort
        )
        # The question alone: the figures of what stands before it are at hand.
        self._request = request_for(self._turn, [])
        self._past = past_of(self._turn)
        self._live = self._conversation.live_turn if conversation else None
        self.at_most: int | None = None
        self.fitted_to: int | None = None
        self.in_doubt = self.is_counted_first = self.waits = False
        self.refusal = self.account = ""
        self._look_at_the_budget()

    @property
    def is_empty(self) -> bool:
        return self.asked.is_empty

    @property
    def is_first(self) -> bool:
        return self._turn.question.parent_id is None

    @cached_property
    def about(self) -> int:
        return self._cost(self._model, self._prompt, self._output)

    @property
    def of_the_past(self) -> int:
        """The part of it that everything before the message costs."""
        return self._cost(self._model, replace(self._prompt, question=0), 0)

    @cached_property
    def cheaper(self) -> Cheaper | None:
        """The cheapest model that is offered, where it would cost much less."""
        if not self._is_priced(self._model):
            return None
        able = [model for model in catalogue.offered() if self._is_able(model)]
        costs = {model.id: self._cost(model, self._as_counted_by(model), self._usual(model)) for model in able}
        best = min(able, key=lambda model: costs[model.id], default=None)
        if best is None or costs[best.id] * CHEAPER_PART > self.about or self.about - costs[best.id] <= CHEAPER_BY:
            return None
        return Cheaper(best.id, best.name.removeprefix("Claude "), costs[best.id])

    @cached_property
    def meter(self) -> Meter:
        meter = Meter(
            tokens=self._prompt.tokens,
            context=self._model.context,
            cost=self.of_the_past,
            is_cached=self._prompt.cached > 0,
            will_be_cached=_is_cached(self._model, self._prompt, self._request),
            summarise_about=None,
            will_be_summarised=window.is_too_full(self._prompt.tokens, self._model),
        )
        return replace(meter, summarise_about=self._cost_of_a_summary()) if meter.is_shown else meter

    def _look_at_the_budget(self) -> None:
        wanted = self._request.wanted_tokens
        before = self._past.before
        self.refusal = excess([{"content": list(before.files)}, *self._request.messages], self._model)
        if self.refusal:
            return
        try:
            terms = terms_of(self._request, expected=True, before=before)
            most, self.at_most = spend.quote(submission.call_of(self._turn, terms, wanted))
            self.fitted_to = most if most < wanted else None
            self.is_counted_first = self._past.is_expected or _is_expected(self._request)
            self._wait_for_the_answer(wanted)
        except spend.Unpriceable:
            self.refusal = ENDINGS["no_price"].words
        except spend.OverBudget as over:
            self.account = over.account.key
            if over.is_certain:
                words = over_budget_words(submission.refusal(over))
                self.refusal = words.replace("Not sent:", "This would not be sent:", 1)
            else:
                self.in_doubt = True

    def _wait_for_the_answer(self, wanted: int) -> None:
        """An answer that is being written goes along with the next message, as long as it may become. What is held for
        it is free by then, so that nothing can be said where the budget is short."""
        if self._live is None:
            return
        self.waits = True
        if before := with_its_answer(self._past, self._live, self._model):
            terms = terms_of(self._request, expected=True, before=before)
            with suppress(spend.OverBudget):
                most, at_most = spend.quote(submission.call_of(self._turn, terms, wanted))
                if most == wanted:
                    self.at_most, self.waits = at_most, False

    @cached_property
    def _prompt(self) -> Prompt:
        prompt = self._past.history.before(self._request, self._turn)
        return replace(prompt, history=prompt.history + self._usual(self._model)) if self._live else prompt

    @cached_property
    def _prices(self) -> dict[str, dict]:
        models = {self._model.id, settings.SUMMARY_MODEL, *(model.id for model in catalogue.offered())}
        prices = Price.objects.current_of(models, timezone.now())
        return {model: price.numbers() for model, price in prices.items() if price.is_usable}

    @cached_property
    def _output(self) -> int:
        return min(self._usual(self._model), self.fitted_to or self._request.wanted_tokens)

    def _usual(self, model: ClaudeModel) -> int:
        """As long as the person's latest answers by that model with that effort: half of them were shorter."""
        like = (model.id, self.asked.effort, "reply", UsageRecord.State.SETTLED, UsageRecord.Confidence.EXACT)
        lengths = [length for length, *call in self._latest if tuple(call) == like]
        usual = median_low(lengths) if len(lengths) >= ENOUGH_ANSWERS else TYPICAL_OUTPUT[self.asked.effort]
        return min(usual, WANTED_TOKENS[self.asked.effort], model.max_output)

    @cached_property
    def _latest(self) -> list[tuple]:
        # Looked through here, since a search for the like may find them far back or not at all.
        columns = ("output_tokens", "model", "turn__effort", "purpose", "state", "confidence")
        return list(self._person.usage_records.order_by("-admitted_at").values_list(*columns)[:LATEST_ANSWERS])

    def _cost(self, model: ClaudeModel, prompt: Prompt, output: int) -> int:
        """Not above the hold, which is right where an estimate is not. Zero for a model without a price."""
        if not self._is_priced(model):
            return 0
        cost = pricing.cost(self._prices[model.id], _usage(model, prompt, output, self._request))
        return cost if self.at_most is None else min(cost, self.at_most)

    def _cost_of_a_summary(self) -> int | None:
        """None where there is nothing older to summarise, or nobody to do it."""
        writer = catalogue.find(settings.SUMMARY_MODEL)
        if self._past.older is None or not self._is_priced(writer):
            return None
        return pricing.cost(self._prices[writer.id], Usage(input=self._past.older, output=SUMMARY_WRITES))

    def _is_priced(self, model: ClaudeModel) -> bool:
        return model.id in self._prices

    def _is_able(self, model: ClaudeModel) -> bool:
        searches = model.searches_the_web or not self._request.searches
        return self._is_priced(model) and searches and self._as_counted_by(model).tokens < model.context

    def _as_counted_by(self, model: ClaudeModel) -> Prompt:
        """The prompt for another model, which has nothing of it in its cache."""
        if model.id == self._model.id:
            return self._prompt
        ratio = window.bytes_per_token(self._model) / window.bytes_per_token(model)
        return Prompt(round(self._prompt.history * ratio), round(self._prompt.question * ratio), 0)


def _is_expected(request: Request) -> bool:
    """Whether there is a PDF in it: nobody but Claude knows how much is in one."""
    return bound_of_messages(request, expected=True) < bound_of_messages(request)


def _is_cached(model: ClaudeModel, prompt: Prompt, request: Request) -> bool:
    """Whether Claude keeps it for the message after it."""
    return bool(request.ttl) and prompt.tokens >= model.min_cacheable


def _usage(model: ClaudeModel, prompt: Prompt, output: int, request: Request) -> Usage:
    fresh = prompt.tokens - prompt.cached
    writes = _is_cached(model, prompt, request)
    searches = 1 if request.searches and output else 0
    return Usage(
        input=(0 if writes else fresh) + searches * SEARCH_READS,
        cache_write_5m=fresh if writes else 0,
        cache_read=prompt.cached + searches * prompt.tokens,
        output=output,
        searches=searches,
        us=request.geo == "us",
    )
