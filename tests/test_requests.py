"""A conversation as a request: what is sent, what is left out, and how long it can be at most."""

import uuid

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from chat import catalogue, spend
from chat.claude import Request, bound_of, request_for, title_request
from chat.claude.request import SYSTEM
from chat.engine import engine
from chat.models import Conversation, Turn
from chat.pricing import Usage
from chat.sandbox import tokens, validation
from chat.sandbox.catalogue import Catalogue
from chat.sandbox.prompt import Prompt
from tests.books import HAIKU, OPUS, SONNET, admit, bounded, few

API = Catalogue()
OLD = "claude-haiku-4-5"  # counts with the older tokenizer
# What the API still serves: a model that has retired is refused whatever is sent.
SERVED = [model for model in catalogue.shipped() if API.get(model.id)]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).filter(str.strip)

pytestmark = pytest.mark.django_db


def counted(request: Request) -> int:
    """What the stand-in counts, after having checked the request as the API does."""
    body = {**request.parameters(), "max_tokens": request.wanted_tokens}
    return Prompt(body, validation.check(body, API)).tokens


def text(words: str) -> list[dict]:
    return [{"type": "text", "text": words}]


def say(conversation: Conversation, question: str, reply=None, *, stop_reason="end_turn", **choice) -> Turn:
    """One more turn: over with that reply (text or blocks), or still to be answered."""
    turn = conversation.start_turn(question, uuid.uuid4(), **choice)
    if reply is not None:
        turn.reply.write(text(reply) if isinstance(reply, str) and reply else reply or [])
        turn.reply.keep()
        Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason=stop_reason)
    return turn


def book(turn: Turn, prompt: int, output: int, **end) -> None:
    """The turn's call, settled as exact unless `end` says otherwise."""
    Turn.objects.filter(id=turn.id).update(state=Turn.State.QUEUED)
    running = Turn.objects.claim(turn.id)
    record = admit(turn.user, turn=running, purpose="reply", model=turn.model)
    spend.settle(record, Usage(input=prompt, output=output), **{"exact": True, **end})
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE)


def sent(turn: Turn) -> list[tuple[str, str]]:
    return [
        (message["role"], "".join(block["text"] for block in message["content"]))
        for message in request_for(turn).messages
    ]


# --- History


def test_the_whole_branch_is_sent_oldest_first(conversation):
    say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")
    turn = say(conversation, "Three?")

    assert sent(turn) == [
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
        ("assistant", "Two."),
        ("user", "Three?"),
    ]


def test_a_question_asked_again_is_sent_without_its_first_reply(conversation):
    say(conversation, "One?", "One.")
    first = say(conversation, "Two?", "Two.")

    again = conversation.retry_turn(first.question, uuid.uuid4())

    assert sent(again) == [("user", "One?"), ("assistant", "One."), ("user", "Two?")]


def test_thinking_and_tools_of_turns_that_are_over_are_left_out(conversation):
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        *text("One."),
        {"type": "redacted_thinking", "data": "…"},
    ]
    say(conversation, "One?", blocks)

    request = request_for(say(conversation, "Two?"))

    assert request.messages[1] == {"role": "assistant", "content": text("One.")}


def test_a_refused_question_is_not_sent_again(conversation):
    say(conversation, "One?", "One.")
    say(conversation, "Something bad?", "", stop_reason="refusal")

    assert sent(say(conversation, "Two?")) == [("user", "One?"), ("assistant", "One."), ("user", "Two?")]


def test_a_refused_question_that_another_model_answered_is_kept(conversation):
    refused = say(conversation, "Something odd?", "", stop_reason="refusal")
    answered = conversation.retry_turn(refused.question, uuid.uuid4(), model=OPUS)
    answered.reply.write(text("Odd."))
    answered.reply.keep()
    Turn.objects.filter(id=answered.id).update(state=Turn.State.DONE)

    assert sent(say(conversation, "Two?"))[:2] == [("user", "Something odd?"), ("assistant", "Odd.")]


def test_a_refused_question_that_is_asked_again_is_sent(conversation):
    refused = say(conversation, "Something odd?", "", stop_reason="refusal")

    assert sent(conversation.retry_turn(refused.question, uuid.uuid4())) == [("user", "Something odd?")]


def test_a_question_without_a_reply_is_kept(conversation):
    say(conversation, "One?", "", stop_reason="")

    assert sent(say(conversation, "Two?")) == [("user", "One?"), ("user", "Two?")]


@pytest.mark.parametrize("reply", ["\n\n", [*text("Sunny"), *text(" "), *text("and cold.")]])
def test_a_reply_with_a_block_of_white_space_does_not_end_the_conversation(conversation, reply):
    say(conversation, "One?", reply)

    assert counted(request_for(say(conversation, "Two?"))) > 0


def test_the_system_prompt_of_the_conversation_follows_ours(conversation):
    conversation.system_prompt = "Answer in rhymes."

    assert request_for(say(conversation, "One?")).system == f"{SYSTEM}\n\nAnswer in rhymes."


def test_the_same_turn_is_the_same_request_so_that_the_cache_can_help(conversation):
    say(conversation, "One?", "One.")
    turn = say(conversation, "Two?")

    assert request_for(turn) == request_for(Turn.objects.get(id=turn.id))
    assert request_for(turn).parameters()["cache_control"] == {"type": "ephemeral"}


def test_claude_learns_a_number_and_no_name(alice, bob, conversation):
    of_alice = request_for(say(conversation, "One?"))
    of_bob = request_for(say(bob.conversations.create(model=SONNET), "One?"))

    assert "alice" not in str(of_alice.parameters())
    assert of_alice.user_id != of_bob.user_id
    assert len(of_alice.parameters()["metadata"]["user_id"]) == 32


# --- Models


@pytest.mark.parametrize("effort", ["quick", "balanced", "deep"])
@pytest.mark.parametrize("model", SERVED, ids=lambda model: model.id)
def test_what_is_sent_is_accepted_for_every_model_and_effort(conversation, model, effort):
    say(conversation, "One?", "One.")

    request = request_for(say(conversation, "Two?", model=model.id, effort=effort))

    assert counted(request) <= bound_of(request)
    assert request.wanted_tokens <= model.max_output


@pytest.mark.parametrize(
    ("model", "thinks", "efforts"),
    [
        (SONNET, True, ["low", "medium", "high"]),
        (HAIKU, True, ["low", "medium", "high"]),
        ("claude-opus-4-5", False, ["low", "medium", "high"]),
        (OLD, False, [None, None, None]),
        ("claude-unheard-of", False, [None, None, None]),
    ],
)
def test_effort_and_thinking_are_asked_for_only_where_they_are_understood(conversation, model, thinks, efforts):
    say(conversation, "One?", "One.", model=model)
    turn = say(conversation, "Two?")
    found = []
    for turn.effort in ("quick", "balanced", "deep"):
        parameters = request_for(turn).parameters()
        found.append(parameters.get("output_config", {}).get("effort"))

        assert parameters.get("thinking") == ({"type": "adaptive", "display": "summarized"} if thinks else None)
    assert found == efforts


def test_a_deeper_answer_may_be_longer(conversation):
    turn = say(conversation, "One?")

    def wanted(effort: str) -> int:
        turn.effort = effort
        return request_for(turn).wanted_tokens

    assert wanted("quick") < wanted("balanced") < wanted("deep")


def test_a_model_by_its_alias_is_asked_for_by_its_name(conversation):
    assert request_for(say(conversation, "One?", model="claude-haiku-4-5-20251001")).model == OLD


@pytest.mark.parametrize("model", [HAIKU, OLD, SONNET])
def test_a_title_is_a_small_request_that_the_api_accepts(conversation, settings, model):
    settings.TITLE_MODEL = model
    turn = say(conversation, "Tides? " * 5_000)

    request = title_request(turn.question, turn.user_id)

    assert counted(request) <= bound_of(request) < 2_500
    assert not request.cached
    assert request.wanted_tokens <= 1_024


def test_a_title_without_thinking_is_forty_tokens_at_most(conversation, settings):
    settings.TITLE_MODEL = HAIKU

    request = title_request(say(conversation, "Tides?").question, 1)

    assert (request.wanted_tokens, request.thinking) == (40, {"type": "disabled"})


# --- The bound


@bounded
@given(
    model=st.sampled_from([SONNET, OLD]),
    system=TEXTS | st.just(""),
    conversation=st.lists(st.tuples(TEXTS, TEXTS), max_size=4),
    question=TEXTS,
)
def test_no_text_has_more_tokens_than_the_bound(model, system, conversation, question):
    messages = [
        {"role": role, "content": text(words)}
        for pair in conversation
        for role, words in zip(("user", "assistant"), pair, strict=True)
    ]
    request = Request(
        model=model,
        messages=[*messages, {"role": "user", "content": question}],
        system=system if system.strip() else "",
        wanted_tokens=100,
    )

    assert counted(request) <= bound_of(request)


@few
@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4),
    models=st.lists(st.sampled_from([SONNET, OPUS, OLD]), min_size=4, max_size=4),
    known=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_no_conversation_has_more_tokens_than_the_bound_whatever_was_counted_before(alice, texts, models, known):
    with transaction.atomic():
        conversation = alice.conversations.create(model=SONNET)
        for (question, reply), model, exact in zip(texts, models, known, strict=False):
            turn = say(conversation, question, reply, model=model)
            request = request_for(turn)

            assert counted(request) <= bound_of(request, turn)
            output = tokens.count(reply, catalogue.find(model).tokenizer)
            book(turn, counted(request), output, exact=exact)
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "words", ["Hello", "Ünï©ödé 🙂" * 50, "\u200b\u0301" * 100, "日本語" * 100, "0 " * 1_000, "\t\r\n x"]
)
def test_the_bound_holds_against_count_tokens_over_http(conversation, sandbox, words):
    request = request_for(say(conversation, words))

    over_http = engine().wait(engine().ask(lambda claude: claude.count(request)))

    assert over_http == counted(request) <= bound_of(request)


def test_an_exact_count_stands_for_everything_before_the_question(conversation):
    long = say(conversation, "Read this: " + "word " * 20_000, "Read.")
    book(long, prompt=21_000, output=9)

    turn = say(conversation, "And?")
    request = request_for(turn)

    assert 21_009 < bound_of(request, turn) < 21_009 + 500
    assert bound_of(request) > 100_000


@pytest.mark.parametrize("why", ["estimated", "another tokenizer", "a longer system prompt", "void"])
def test_what_is_not_known_exactly_does_not_lower_the_bound(conversation, why):
    before = say(conversation, "word " * 1_000, "Read.", model=OLD if why == "another tokenizer" else SONNET)
    if why != "void":
        book(before, prompt=2, output=1, exact=why != "estimated")
    if why == "a longer system prompt":
        conversation.system_prompt = "rule " * 1_000

    turn = say(conversation, "And?", model=SONNET)

    assert bound_of(request_for(turn), turn) > 5_000


def test_the_count_of_an_unknown_model_says_nothing_about_another_one(conversation):
    before = say(conversation, "word " * 1_000, "Read.", model=SONNET)
    book(before, prompt=2, output=1)
    before.usage_records.update(model="model-of-a-gateway")

    turn = say(conversation, "And?", model="another-model")

    assert bound_of(request_for(turn), turn) > 5_000


def test_a_question_asked_again_stands_on_the_count_before_it(conversation):
    book(say(conversation, "word " * 1_000, "Read."), prompt=1_000, output=9)
    first = say(conversation, "And?", "So.")

    again = conversation.retry_turn(first.question, uuid.uuid4())

    assert 1_009 < bound_of(request_for(again), again) < 1_600


PAUSED = [
    *text("I'll look."),
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tides " * 100}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {"type": "web_search_result", "title": "t", "url": "https://example.com", "encrypted_content": "x " * 9_000}
        ],
    },
]


@pytest.mark.parametrize(("blocks", "counted_before"), [(PAUSED, False), (PAUSED[:2], True)])
def test_the_bound_holds_after_claude_paused(conversation, blocks, counted_before):
    first = say(conversation, "One?", "One.")
    if counted_before:
        book(first, prompt=120, output=2)
    turn = say(conversation, "Tell me all about the tides. " * 200)

    request = request_for(turn).continued_after(blocks)

    assert counted(request) <= bound_of(request, turn)
