"""Over HTTP, with the SDK: what was held for each call, and the line in the sandbox's invoice."""

import uuid

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from chat import calls, pricing, spend, submission, turns
from chat.claude import Answer, Request, request_for, terms_of
from chat.engine import engine
from chat.models import Price, Turn
from chat.pricing import Usage
from tests.books import HAIKU, OPUS, SONNET, admit, bounded, few, undone
from tests.conftest import over
from tests.talk import ENGLISH, OLD, TEXTS, any_block, asking, text

pytestmark = pytest.mark.django_db

ASKED = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            "👩‍👩‍👧‍👦🏳️‍🌈" * 40,
            "日本語のテキスト。" * 60,
            "שלום مرحبا नमस्ते " * 40,
            "def f(x):\n\treturn {**x, 'y': [i for i in x]}\n" * 40,
            "x" * 3_000,
            "\t\r\n " * 300 + ".",
            ENGLISH[:4_000],
        ]
    ),
)
SHAPES = st.fixed_dictionaries(
    {"tokens": st.integers(0, 120), "rate": st.just(100_000), "ttft": st.just(0)},
    optional={
        "thinking": st.integers(0, 300),
        "searches": st.integers(1, 4),
        "us": st.just(True),
        "stop": st.sampled_from(["pause_turn", "pause_turn", "refusal", "refusal_mid", "end_empty"]),
    },
)


def send(request: Request, max_tokens: int) -> Answer:
    answer = Answer()
    engine().wait(engine().ask(lambda claude: claude.stream(request, max_tokens, answer, lambda: None)))
    return answer


def numbers_of(model: str) -> dict:
    return Price.objects.filter(model=model).latest("effective_from").numbers()


@bounded
@given(
    blocks=st.lists(any_block(), max_size=4),
    model=st.sampled_from([SONNET, HAIKU, OPUS, OLD]),
    shape=SHAPES,
    searches=st.integers(0, 3),
    ttl=st.sampled_from(["", "5m", "1h"]),
    place=st.sampled_from(["", "global", "us"]),
    fast=st.booleans(),
)
def test_no_request_is_billed_more_than_its_worst_case(sandbox, blocks, model, shape, searches, ttl, place, fast):
    place, fast = "" if model == OLD else place, fast and model == OPUS
    request = asking(*text(ENGLISH), *blocks, model=model, searches=searches, ttl=ttl, geo=place, fast=fast)
    sandbox.enqueue(**shape)

    send(request, 400)

    line = sandbox.invoice[-1]
    assert pricing.worst_case(numbers_of(model), terms_of(request), 400) >= line.cost_nanos
    assert (line.us, line.fast) == (place == "us" or (not place and "us" in shape and model != OLD), fast)


@pytest.mark.parametrize(
    ("words", "long"), [(60_000, False), (99_900, False), (99_964, False), (99_965, True), (150_000, True)]
)
def test_a_prompt_around_the_edge_of_the_long_band_is_held_dearly_enough(sandbox, words, long):
    request = asking(*text(" a" * words), model=HAIKU)
    sandbox.enqueue(tokens=20, rate=100_000)

    send(request, 400)

    line = sandbox.invoice[-1]
    assert (line.cache_write_5m + line.input_tokens > 100_000) is long
    assert pricing.worst_case(numbers_of(HAIKU), terms_of(request), 400) >= line.cost_nanos


TURNS = st.fixed_dictionaries(
    {
        "question": ASKED,
        "model": st.sampled_from([SONNET, SONNET, HAIKU, OPUS, OLD]),
        "shapes": st.lists(SHAPES, min_size=3, max_size=3),
        "end": st.sampled_from(["exact", "exact", "exact", "estimated", "void"]),
        "again": st.booleans(),
        "searches": st.integers(0, 3),
        "system": st.sampled_from(["", "Be brief.", "Rule: " + "x" * 500]),
    }
)


@few
@given(turns=st.lists(TURNS, min_size=1, max_size=4), place=st.sampled_from(["", "", "global", "us"]))
def test_no_turn_of_any_conversation_is_billed_more_than_was_held(alice, sandbox, settings, turns, place):
    settings.INFERENCE_GEO = place
    with undone():
        conversation = alice.conversations.create(model=SONNET)
        for step in turns:
            conversation.max_searches, conversation.system_prompt = step["searches"], step["system"]
            conversation.save()
            turn = conversation.start_turn(step["question"], uuid.uuid4(), model=step["model"])
            carry(turn, sandbox, step["shapes"], step["end"])
            if step["again"]:
                again = conversation.retry_turn(turn.question, uuid.uuid4(), model=SONNET)
                carry(again, sandbox, step["shapes"][::-1], "exact")


def carry(turn: Turn, sandbox, shapes: list[dict], end: str) -> None:
    """A turn as the worker carries it, with a look at the invoice after each call."""
    running = Turn.objects.claim(turn.id)
    request = request_for(running)
    written: list[dict] = []
    for number, shape in enumerate(shapes):
        shape = {**shape, "stop": None} if number == len(shapes) - 1 else shape
        terms = terms_of(request, running)
        call = spend.Call(turn.user, "reply", turn.model, terms=terms, wanted_tokens=400, turn=running)
        record = spend.admit(call)
        sandbox.enqueue(**{name: value for name, value in shape.items() if value is not None})

        answer = send(request, record.max_tokens)

        line, usage = sandbox.invoice[-1], Usage.read(answer.usage)
        free = answer.stop_reason == "refusal" and not answer.blocks
        assert usage.prompt <= terms.prompt(usage.output)
        assert record.held >= line.cost_nanos
        paused = answer.stop_reason == "pause_turn"
        if paused or end == "exact":
            spend.settle(record, usage, exact=True, cost=0 if free else None)
            assert record.cost == line.cost_nanos
        elif end == "estimated":
            spend.settle(record, pricing.unfinished(record.price_numbers, terms, usage.output), exact=False)
            assert record.held >= record.cost >= line.cost_nanos
        else:
            spend.void(record)
        written += answer.blocks
        if not paused:
            break
        request = request.continued_after(answer.blocks)
    refused = answer.stop_reason == "refusal"
    running.reply.write([] if refused or end == "void" else written)
    running.reply.keep()
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason=answer.stop_reason)


@pytest.mark.django_db(transaction=True)
def test_instructions_that_change_while_a_turn_waits_do_not_make_its_prompt_longer_than_was_held(conversation, sandbox):
    with transaction.atomic():  # no worker hears of it before the instructions have changed
        turn = submission.ask(conversation, "One?", uuid.uuid4())
        conversation.system_prompt = "rule " * 4_000
        conversation.save()

    turns.run(turn.id)

    over(turn)
    line, record = sandbox.invoice[0], turn.usage_records.get(state="settled")
    assert line.input_tokens + line.cache_write_5m <= record.input_bound


@pytest.mark.parametrize(("written", "is_free"), [(0, True), (3, False)])
def test_a_refusal_is_free_when_nothing_was_written_even_if_a_block_had_been_begun(alice, written, is_free):
    record = admit(alice)
    answer = Answer()
    answer.feed(
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 50, "output_tokens": 1}}}
    )
    answer.feed({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    answer.feed({"type": "content_block_stop", "index": 0})
    answer.feed({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": written}})
    answer.feed({"type": "message_stop"})

    calls.settle(record, answer, None)

    record.refresh_from_db()
    assert (record.cost == 0) == is_free
    assert (record.input_tokens, record.output_tokens, record.confidence) == (50, written, "exact")
