"""How full a window is said to be, and where a summary divides a branch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat import catalogue, window
from chat.claude import request_for
from chat.models import Message
from tests.books import SONNET, bounded
from tests.talk import ENGLISH, OLD, book, counted, say

pytestmark = pytest.mark.django_db


def exchanges(*sizes: int) -> list[Message]:
    """Questions and answers of so many bytes, in turn."""
    roles = [Message.Role.USER, Message.Role.ASSISTANT]
    return [Message(role=roles[place % 2], text="x" * size) for place, size in enumerate(sizes)]


@pytest.mark.parametrize("model", [SONNET, OLD])
def test_a_prompt_in_english_is_estimated_within_a_third(conversation, model):
    for number in range(4):
        say(conversation, f"Tell me about chapter {number}. {ENGLISH[:800]}", ENGLISH, model=model)
    turn = say(conversation, "And the last one?", model=model)
    request = request_for(turn)

    estimate = window.prompt_of(request, turn).tokens

    assert 0.67 < estimate / counted(request) < 1.5


def test_an_exact_count_stands_for_everything_before_it(conversation):
    book(say(conversation, "word " * 20_000, "Read."), prompt=21_000, output=3)

    turn = say(conversation, "And?")
    prompt = window.prompt_of(request_for(turn), turn)

    assert 21_002 <= prompt.history <= 21_005
    assert prompt.question == 2


def test_what_was_thought_is_not_a_part_of_what_is_sent_again(conversation):
    before = say(conversation, "Think.", "word " * 100)
    book(before, prompt=50, output=5_000)
    before.usage_records.update(thinking_tokens=4_900)

    turn = say(conversation, "And?")

    assert window.prompt_of(request_for(turn), turn).history == 150


def test_the_newest_exchanges_stay_as_they_are():
    branch = exchanges(*[40] * 20)

    older = window.older(branch, catalogue.find(SONNET))

    assert older == branch[:12]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_short_conversation_has_nothing_older(count):
    assert window.older(exchanges(*[40] * (2 * count)), catalogue.find(SONNET)) == []


def test_fewer_stay_where_they_alone_would_fill_a_quarter_of_the_window():
    part = 3.5 * 200_000 // 4
    branch = exchanges(40, 40, 40, int(part), 40, 40, 40, int(part), 40, 40)

    older = window.older(branch, catalogue.find(OLD))

    assert older == branch[:8]


def test_a_question_is_never_summarised_without_its_answer():
    branch = exchanges(40, 40, 40, 4_000_000)[:3] + exchanges(4_000_000)

    assert window.older(branch, catalogue.find(OLD)) == branch[:2]


def test_a_summary_stands_for_no_more_than_its_writer_can_read(settings):
    settings.SUMMARY_MODEL = OLD
    branch = exchanges(*[200_000] * 20)

    older = window.older(branch, catalogue.find(SONNET))

    assert older == branch[:2]


@bounded
@given(sizes=st.lists(st.integers(0, 400_000), max_size=24), model=st.sampled_from([SONNET, OLD]))
def test_what_is_summarised_is_a_beginning_that_ends_with_an_answer(sizes, model):
    branch = exchanges(*sizes)

    older = window.older(branch, catalogue.find(model))

    assert older == branch[: len(older)]
    assert not older or (older[-1].role == Message.Role.ASSISTANT and older[-1].text)


@pytest.mark.parametrize(
    ("percent", "tokens", "is_too_full"), [(75, 150_000, False), (75, 150_001, True), (0, 10**9, False)]
)
def test_the_setting_says_how_full_is_too_full(settings, percent, tokens, is_too_full):
    settings.SUMMARISE_AT_PERCENT = percent

    assert window.is_too_full(tokens, catalogue.find(OLD)) is is_too_full
