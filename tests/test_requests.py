"""A conversation as a request: what is sent, and what is left out."""

import uuid
from dataclasses import replace

import pytest

from chat import catalogue
from chat.claude import bound_of, request_for, title_request
from chat.claude.request import SYSTEM
from chat.models import Turn
from tests.books import HAIKU, OPUS, SONNET
from tests.talk import API, OLD, counted, say, text

# What the API still serves: a model that has retired is refused whatever is sent.
SERVED = [model for model in catalogue.shipped() if API.get(model.id)]

pytestmark = pytest.mark.django_db


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


def test_an_answer_with_sources_goes_back_as_its_words(conversation):
    """What the citations point at, the search's results, is not sent either."""
    source = {"type": "web_search_result_location", "url": "https://example.com", "encrypted_index": "Eo8B"}
    say(conversation, "One?", [*text("Look: "), {"type": "text", "text": "sunny.", "citations": [source]}])

    request = request_for(say(conversation, "Two?"))

    assert request.messages[1]["content"] == [*text("Look: "), *text("sunny.")]


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
    assert not request.ttl
    assert request.wanted_tokens <= 1_024


def test_a_title_without_thinking_is_forty_tokens_at_most(conversation, settings):
    settings.TITLE_MODEL = HAIKU

    request = title_request(say(conversation, "Tides?").question, 1)

    assert (request.wanted_tokens, request.thinking) == (40, {"type": "disabled"})


# --- What may cost more


@pytest.mark.parametrize(("setting", "allowed", "most"), [(5, 0, 0), (5, 1, 1), (3, 99, 3), (2, 3, 2), (0, 3, 0)])
def test_an_answer_may_search_the_web_as_often_as_its_conversation_and_the_setting_allow(
    conversation, settings, setting, allowed, most
):
    settings.SEARCHES_PER_ANSWER = setting
    conversation.max_searches = allowed

    request = request_for(say(conversation, "What is new?"))

    assert counted(request) > 0
    [sent] = [tool["max_uses"] for tool in request.parameters().get("tools", [])] or [0]
    assert sent == request.searches == most
    assert request.countable().get("tools") == request.parameters().get("tools")


@pytest.mark.parametrize("model", ["claude-mythos-5-2", "claude-unheard-of"])
def test_a_model_that_cannot_search_is_not_asked_to(conversation, model):
    conversation.max_searches = 3

    assert "tools" not in request_for(say(conversation, "What is new?", model=model)).parameters()


def test_a_title_is_written_without_searching(conversation):
    conversation.max_searches = 3
    turn = say(conversation, "What is new?")

    assert "tools" not in title_request(turn.question, turn.user_id).parameters()


@pytest.mark.parametrize("place", ["", "global", "us"])
@pytest.mark.parametrize(("model", "knows_places"), [(SONNET, True), (OLD, False), ("claude-unheard-of", False)])
def test_the_place_of_the_setting_is_asked_for_where_the_model_knows_places(
    conversation, settings, model, knows_places, place
):
    settings.INFERENCE_GEO, settings.TITLE_MODEL = place, model
    turn = say(conversation, "One?", model=model)

    for request in (request_for(turn), title_request(turn.question, turn.user_id)):
        assert request.parameters().get("inference_geo", "") == (place if knows_places else "")
        assert not API.get(model) or counted(request) > 0


def test_an_hour_of_caching_and_fast_mode_are_asked_for_in_words_that_the_api_accepts(conversation):
    request = replace(request_for(say(conversation, "One?", model=OPUS)), ttl="1h", fast=True)

    assert counted(request) > 0
    assert request.parameters()["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert request.parameters()["speed"] == "fast"
