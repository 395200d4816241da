"""The bound of a prompt: never below what is counted, and never far above it."""

import uuid

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from chat import catalogue
from chat.claude import Request, bound_of, request_for, terms_of
from chat.claude.bounds import PER_REQUEST
from chat.claude.request import SYSTEM
from chat.engine import engine
from chat.models import Turn, UsageRecord
from chat.pricing import SEARCH_TOKENS
from chat.sandbox import tokens
from tests.books import OPUS, SONNET, bounded, few
from tests.talk import ENGLISH, OLD, TEXTS, any_block, asking, book, counted, image, pdf, say, text

pytestmark = pytest.mark.django_db


# --- Texts


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


# --- What was counted before


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


@pytest.mark.parametrize("parent", ["estimated", "void", "never sent"])
def test_where_the_answer_before_was_not_counted_the_one_before_it_stands(conversation, parent):
    book(say(conversation, "word " * 20_000, "Read."), prompt=21_000, output=9)
    before = say(conversation, "And?", "So." if parent == "estimated" else "")
    if parent != "never sent":
        book(before, prompt=2, output=1, void=parent == "void", exact=False)

    turn = say(conversation, "Then?")

    assert 21_009 < bound_of(request_for(turn), turn) < 21_009 + 500


def test_an_answer_whose_last_call_was_not_counted_says_nothing_by_its_first(conversation):
    """It paused, was counted, went on, and was cut: what it wrote then is in the reply, and in no count."""
    before = say(conversation, "Read this.", "word " * 2_000)
    book(before, prompt=50, output=1)
    book(before, prompt=52, output=1, exact=False)

    turn = say(conversation, "And?")

    assert bound_of(request_for(turn), turn) > 10_000


def test_a_call_that_is_open_is_no_count(conversation):
    before = say(conversation, "word " * 1_000, "Read.")
    book(before, prompt=2, output=1)
    UsageRecord.objects.update(state="sent")

    turn = say(conversation, "And?")
    bound = bound_of(request_for(turn), turn)
    UsageRecord.objects.update(state="settled")

    assert bound > 5_000


def test_tokens_of_kinds_that_nobody_knows_may_be_a_part_of_the_prompt(conversation):
    before = say(conversation, "word " * 20_000, "Read.")
    book(before, prompt=20_000, output=9)
    known = say(conversation, "And?")
    bound = bound_of(request_for(known), known)

    before.usage_records.update(unknown_tokens=700)

    assert bound_of(request_for(known), known) == bound + 700


def test_of_an_answer_only_its_words_are_sent_again_and_not_what_was_thought(conversation):
    book(say(conversation, "word " * 20_000, "Read."), prompt=20_000, output=30_000)

    turn = say(conversation, "And?")

    assert 20_000 < bound_of(request_for(turn), turn) < 20_500


def test_a_call_that_was_not_billed_after_a_pause_leaves_the_count_before_it_standing(conversation):
    before = say(conversation, "word " * 20_000, "Read.")
    book(before, prompt=20_000, output=9)
    book(before, prompt=0, output=0, void=True)

    turn = say(conversation, "And?")

    assert 20_000 < bound_of(request_for(turn), turn) < 20_500


def test_the_bound_takes_one_query_however_long_the_branch_is(conversation, django_assert_num_queries):
    for number in range(12):
        book(say(conversation, f"{number}?", "Yes."), prompt=100 * number, output=2)
    turn = say(conversation, "And?")
    request = request_for(turn)

    with django_assert_num_queries(1):
        bound_of(request, turn)


def test_the_bound_of_a_conversation_in_english_is_hardly_more_than_the_truth(conversation):
    """Nobody may be refused for a bound that is far from what is sent."""
    for number in range(6):
        turn = say(conversation, f"Tell me more about chapter {number}, please.")
        request = request_for(turn)
        before = bound_of(request, turn), counted(request)
        turn.reply.write(text(ENGLISH))
        turn.reply.keep()
        book(turn, counted(request), tokens.count(ENGLISH, "new"))
        Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE)

    bound, truth = before
    assert truth > 5 * tokens.count(ENGLISH, "new")
    assert truth < bound < 1.1 * truth + PER_REQUEST + len(SYSTEM)


# --- What Claude paused in


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


def test_what_was_thought_before_a_pause_may_be_more_than_is_shown_of_it(conversation):
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    turn = say(conversation, "One?")
    request = request_for(turn).continued_after([thought, *PAUSED[:2]])

    unknown = bound_of(request, turn)
    book(turn, prompt=120, output=9_000)

    assert unknown > catalogue.find(SONNET).max_output
    assert 9_120 < bound_of(request, turn) < 9_120 + SEARCH_TOKENS + 1_000


@pytest.mark.parametrize(
    ("blocks", "unread"), [(PAUSED[:1], 0), (PAUSED[:2], 1), (PAUSED, 2), ([*PAUSED, PAUSED[0]], 0)]
)
def test_searches_that_claude_has_not_read_before_a_pause_come_on_top_of_its_count(conversation, blocks, unread):
    turn = say(conversation, "word " * 20_000)
    book(turn, prompt=30_000, output=50)

    bound = bound_of(request_for(turn).continued_after(blocks), turn)

    assert 0 < bound - 30_000 - unread * SEARCH_TOKENS < 500


# --- Everything else that may be sent


@pytest.mark.parametrize(("model", "most"), [(SONNET, 4_784), (OLD, 1_568), ("model-of-a-gateway", 4_784)])
@pytest.mark.parametrize(
    "picture", [image(8_000, 8_000), {"type": "image", "source": {"type": "url", "url": "https://example.com/x"}}]
)
def test_a_picture_has_as_many_tokens_as_the_largest_one_however_many_its_bytes(model, most, picture):
    assert bound_of(asking(picture, model=model)) - bound_of(asking(model=model)) == most


@pytest.mark.parametrize(("model", "window"), [(SONNET, 1_000_000), (OLD, 200_000)])
def test_nobody_knows_how_much_is_in_a_pdf_but_it_has_to_fit_into_the_window(model, window):
    assert bound_of(asking(pdf(1), model=model)) == window


def test_the_window_of_a_model_that_is_not_shipped_is_a_guess_and_no_bound():
    assert bound_of(asking(*text("word " * 100_000), model="model-of-a-gateway")) > 500_000
    assert bound_of(asking(*text("word " * 100_000), model=OLD)) == 200_000


def test_what_claude_counted_is_taken_with_a_margin_where_it_is_lower():
    request = asking(pdf(3))

    assert terms_of(request, counted=10_000).input_bound == 11_000
    assert terms_of(request, counted=10**9).input_bound == bound_of(request)


@pytest.mark.parametrize(("place", "us"), [("", True), ("global", False), ("us", True)])
def test_where_no_place_is_named_the_workspace_may_say_us(place, us):
    assert terms_of(asking(geo=place)).us is us


def test_the_terms_say_all_that_is_asked_for():
    terms = terms_of(asking(ttl="1h", searches=3, fast=True))

    assert (terms.ttl, terms.searches, terms.fast) == ("1h", 3, True)
    assert terms.input_bound > terms_of(asking()).input_bound + 2_679  # what Claude is told about searching


@bounded
@given(blocks=st.lists(any_block(), min_size=1, max_size=5), model=st.sampled_from([SONNET, OLD]))
def test_no_block_has_more_tokens_than_the_bound(blocks, model):
    request = asking(*blocks, model=model)

    assert counted(request) <= bound_of(request)
