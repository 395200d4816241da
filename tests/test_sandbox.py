"""The stand-in for the Messages API, seen by the real SDK and by bare sockets. No Django, no database."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import anthropic
import httpx2
import pytest

from chat.sandbox import Sandbox, tokens, wording
from chat.sandbox.caching import PromptCache
from chat.sandbox.catalogue import Catalogue
from chat.sandbox.invoice import cost_nanos
from chat.sandbox.prompt import Prompt
from tests.conftest import wait_until

OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"
OLD_HAIKU, OLD_SONNET = "claude-haiku-4-5", "claude-sonnet-4-6"
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
LOOK_UP = {"name": "look_up", "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}}}
VERSION = {"anthropic-version": "2026-10-21", "x-api-key": "sandbox-key"}


@pytest.fixture(scope="module")
def running():
    with Sandbox(ttft_ms=2, rate=5000) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running):
    running.reset()
    return running


@pytest.fixture(scope="module")
def client(running):
    timeout = httpx2.Timeout(5, read=1)
    with anthropic.Anthropic(api_key="sandbox-key", base_url=running.url, max_retries=0, timeout=timeout) as client:
        yield client


@pytest.fixture
def post(sandbox):
    """A bare POST: (status, parsed body)."""

    def post(path="/v1/messages", headers=VERSION, **body):
        data = json.dumps(body).encode()
        request = urllib.request.Request(sandbox.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return post


def user(content):
    return [{"role": "user", "content": content}]


def stream(client, text, model=SONNET, **more):
    """(events as dicts, exception or None): what a reader of the raw events gets to see."""
    events = []
    params = {"max_tokens": 1000, "messages": user(text), **more}
    try:
        with client.messages.create(model=model, stream=True, **params) as response:
            events.extend(event.to_dict(warnings=False) for event in response)
    except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
        return events, error
    return events, None


def ask(client, question, model=SONNET, **more):
    """The whole message, without a stream. The question may also be a list of messages."""
    messages = user(question) if isinstance(question, str) else question
    return client.messages.create(model=model, max_tokens=500, messages=messages, **more)


def text_of(events):
    return "".join(
        event["delta"]["text"]
        for event in events
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "text_delta"
    )


def ending(events):
    return next(event for event in events if event["type"] == "message_delta")


def only_line(sandbox):
    sandbox.wait_until_idle()
    (line,) = sandbox.invoice
    return line


# The shape of an answer


def test_a_stream_has_the_documented_events_in_their_order(client):
    events, error = stream(client, "[[sandbox tokens=3]] Hello")

    assert error is None
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert ending(events)["usage"]["output_tokens"] == 3


def test_a_stream_pings_and_carries_the_documented_headers(sandbox):
    with _raw(sandbox, "[[sandbox tokens=2]] Hello") as connection:
        answer = _read_all(connection)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"request-id: req_" in head
    assert b"anthropic-ratelimit-input-tokens-limit: 2000000" in head
    assert b"content-type: text/event-stream; charset=utf-8" in head
    assert b'event: ping\ndata: {"type":"ping"}\n\n' in body


def test_an_answer_without_a_stream_says_the_same(client, sandbox):
    message = ask(client, "[[sandbox say=Good%20morning%20%E2%98%80]] Hi")

    assert message.content[0].text == "Good morning ☀"
    assert message._request_id == only_line(sandbox).request_id
    assert message.usage.output_tokens == only_line(sandbox).output_tokens


@pytest.mark.parametrize("text", ["a\r\nb\u2028c\u0085", "日本語 👩‍👩‍👧 e\u0301", "]] [[sandbox", 'say "\\" </script>'])
def test_it_says_any_text_letter_for_letter(client, text):
    events, _ = stream(client, f"[[sandbox say={quote(text, safe='')} one_byte]]")

    assert text_of(events) == text


def test_stamps_carry_the_time_of_sending(client):
    before = time.monotonic_ns()

    events, _ = stream(client, "[[sandbox tokens=5 stamp=1]] Hello")

    stamps = [piece.split("@") for piece in text_of(events).split("; ")[:-1]]
    assert [int(index) for index, _ in stamps] == [0, 1, 2, 3, 4]
    assert all(before < int(sent) < time.monotonic_ns() for _, sent in stamps)


def test_tokens_come_at_the_pace_asked_for(client):
    started = time.monotonic()

    stream(client, "[[sandbox ttft=50 rate=100 tokens=21]] Hello")

    assert 0.24 < time.monotonic() - started < 5


def test_time_can_be_skipped_for_an_answer_under_way(client, sandbox):
    sandbox.enqueue(ttft=600_000, tokens=3)

    def skip():
        wait_until(lambda: sandbox.requests, "nothing was asked")
        sandbox.skip(600)

    skipping = threading.Thread(target=skip)
    skipping.start()
    events, _ = stream(client, "Hello")
    skipping.join()

    assert ending(events)["usage"]["output_tokens"] == 3


def test_max_tokens_is_a_ceiling(client, sandbox):
    events, _ = stream(client, "[[sandbox tokens=50]] Hello", max_tokens=10)

    assert ending(events)["delta"]["stop_reason"] == "max_tokens"
    assert ending(events)["usage"]["output_tokens"] == only_line(sandbox).output_tokens == 10


def test_max_tokens_can_end_inside_the_thinking(client):
    events, _ = stream(client, "[[sandbox tokens=50 thinking=30]] Hello", model=OPUS, max_tokens=20)

    assert text_of(events) == ""
    assert ending(events)["delta"]["stop_reason"] == "max_tokens"
    assert ending(events)["usage"]["output_tokens_details"] == {"thinking_tokens": 20}


def test_a_stop_sequence_ends_the_answer(client):
    events, _ = stream(client, "[[sandbox say=one%20two%20three]]", stop_sequences=["two"])

    assert text_of(events) == "one "
    assert ending(events)["delta"]["stop_sequence"] == "two"


@pytest.mark.parametrize(("display", "shown"), [("summarized", True), ("omitted", False)])
def test_thinking_is_billed_and_shown_only_when_asked_for(client, sandbox, display, shown):
    thinking = {"type": "adaptive", "display": display}

    message = ask(client, "[[sandbox tokens=5 thinking=40]] Hi", model=OPUS, thinking=thinking)

    assert bool(message.content[0].thinking) is shown
    assert len(message.content[0].signature) >= 4 * 40
    assert message.usage.output_tokens == only_line(sandbox).output_tokens == 45


def test_a_model_that_does_not_think_by_default_does_not(client):
    events, _ = stream(client, "[[sandbox tokens=5 thinking=40]] Hi", model=OLD_SONNET)

    assert ending(events)["usage"]["output_tokens"] == 5


def test_a_search_grows_the_input_and_is_cited(client, sandbox):
    events, _ = stream(client, "What is the latest news about Django?", tools=[SEARCH])

    kinds = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    before = events[0]["message"]["usage"]["input_tokens"]
    usage = ending(events)["usage"]
    line = only_line(sandbox)
    assert kinds == ["thinking", "text", "server_tool_use", "web_search_tool_result", "text", "text"]
    assert usage["input_tokens"] == line.input_tokens == 2 * before + 4000
    assert usage["server_tool_use"]["web_search_requests"] == line.web_searches == 1
    assert any(event["delta"].get("type") == "citations_delta" for event in events if "delta" in event)


def test_searches_beyond_max_uses_fail_and_cost_nothing(client, sandbox):
    events, _ = stream(client, "[[sandbox searches=5]] Go", tools=[SEARCH])

    results = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    failed = [block for block in results if isinstance(block.get("content"), dict)]
    assert [block["content"]["error_code"] for block in failed] == ["max_uses_exceeded"]
    assert only_line(sandbox).web_searches == 3


def test_a_forced_tool_is_called(client):
    message = ask(client, "Look up tally sticks", model=HAIKU, tools=[LOOK_UP], tool_choice={"type": "any"})

    assert message.stop_reason == "tool_use"
    assert message.content[-1].input == {"word": "Look up tally sticks"}


# What it says unasked


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Hello, what is this?", "Tally"),
        ("How does the limit work?", "hel"),
        ("Write a Python function", "```python"),
        ("Compare the models", "| Claude Haiku 5.5 | $0.10 | $0.50 |"),
        ("Show me everything", "[^1]: "),
        ("Solve a quadratic equation", "\n$$x_{1,2} = "),
        ("What does an error look like?", "`[[sandbox status=529]]`"),
        ("Explain the theory of colours", "stand-in"),
    ],
)
def test_an_unscripted_answer_takes_up_the_question(client, question, expected):
    events, _ = stream(client, question, max_tokens=4000)

    assert question[:15] in text_of(events)
    assert expected in text_of(events)
    assert "stand-in" in text_of(events)


def test_three_plain_questions_are_not_answered_alike(client):
    asked = ["Why is the sky blue?", "Who painted the night watch?", "Do whales sleep?"]
    messages, bodies = [], []

    for question in asked:
        messages.append({"role": "user", "content": question})
        events, _ = stream(client, "", messages=messages, max_tokens=4000)
        said = text_of(events)
        messages.append({"role": "assistant", "content": said})
        bodies.append(said.split("\n\n")[1])

    assert len(set(bodies)) == 3


def test_asking_again_gives_another_text(client, sandbox):
    first, _ = stream(client, "What does an answer cost?")
    second, _ = stream(client, "What does an answer cost?")

    assert text_of(first) != text_of(second)


def test_a_request_for_a_title_gets_a_few_words_whatever_the_directive_says(client):
    message = ask(
        client,
        "How do tally sticks from the Middle Ages work? [[sandbox status=529]]",
        model=HAIKU,
        system="Write a short title for this conversation.",
    )

    assert message.content[0].text == "Tally sticks Middle Ages work"


def test_a_schema_is_filled(client):
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "tags": {"type": "array"}}}

    message = ask(
        client, "tally sticks", model=HAIKU, output_config={"format": {"type": "json_schema", "schema": schema}}
    )

    assert json.loads(message.content[-1].text) == {"title": "Tally sticks", "tags": ["Tally sticks"]}


def test_a_quoted_question_brings_no_markup(client):
    events, _ = stream(client, "# *Shout* <b>[x](y)</b>")

    assert r"\# \*Shout\* \<b\>\[x\](y)\</b\>" in text_of(events)


@pytest.mark.parametrize("question", ["", "🙂", "a", "Django", "why " * 200])
def test_a_title_is_never_empty_or_long(question):
    assert 0 < len(wording.title(question)) <= 60


# Tokens and the cache


@pytest.mark.parametrize("name", ["old", "new"])
@pytest.mark.parametrize(
    "text", ["", "Hello, world.", "日本語", "\x00\ud83d", "a" * 99, "  \n\n\t", "1234567890", "👩‍👩‍👧"]
)
def test_a_text_never_has_more_tokens_than_bytes(name, text):
    pieces = tokens.split(text, name)

    assert "".join(pieces) == text
    assert len(pieces) <= len(text.encode("utf-8", "surrogatepass"))


def test_english_is_three_to_four_characters_a_token_and_more_on_newer_models():
    text = Path("chat/sandbox/texts/long-1.md").read_text()

    old, new = tokens.count(text, "old"), tokens.count(text, "new")

    assert 3.5 < len(text) / old < 4.2
    assert 1.1 < new / old < 1.4


def test_count_tokens_is_what_is_billed(client, sandbox):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAMgAAABkCAYAAADDhn8LAAAA"
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}},
        {"type": "text", "text": "What is this? [[sandbox tokens=1]]"},
    ]

    counted = client.messages.count_tokens(model=OPUS, system="Be brief.", messages=user(content))
    message = ask(client, user(content), model=OPUS, system="Be brief.")

    assert counted.input_tokens == message.usage.input_tokens == only_line(sandbox).input_tokens
    # 200 x 100 pixels in squares of 28, and little beside them.
    assert 8 * 4 < counted.input_tokens < 8 * 4 + 40


def test_a_second_turn_reads_what_the_first_one_wrote(client):
    system = "Tally counts. " * 300
    auto = {"type": "ephemeral"}
    first = ask(client, "[[sandbox say=One]]", system=system, cache_control=auto)
    turns = [
        *user("[[sandbox say=One]]"),
        {"role": "assistant", "content": "One"},
        *user("[[sandbox say=Two]]"),
    ]

    second = ask(client, turns, system=system, cache_control=auto)

    written = first.usage.cache_creation_input_tokens
    assert written > 512
    assert (first.usage.input_tokens, first.usage.cache_read_input_tokens) == (0, 0)
    assert second.usage.cache_read_input_tokens == written
    assert 0 < second.usage.cache_creation_input_tokens < 60


def _prompt(model=SONNET, system="Tally counts. " * 300, **more):
    body = {"model": model, "system": system, "messages": user("Hello"), "max_tokens": 10, **more}
    return Prompt(body, Catalogue().get(model))


def test_a_prefix_below_the_models_minimum_is_not_cached():
    cache = PromptCache()
    prompt = _prompt(system="Short.", cache_control={"type": "ephemeral"})

    cache.keep(cache.look_up(prompt))

    assert cache.look_up(prompt).uncached == prompt.tokens


def test_both_lifetimes_are_told_apart_and_run_out():
    now = 0
    cache = PromptCache(clock=lambda: now)
    system = [{"type": "text", "text": "Tally counts. " * 300, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    prompt = _prompt(system=system, cache_control={"type": "ephemeral"})

    first = cache.look_up(prompt)
    cache.keep(first)
    now = 299
    at_299 = cache.look_up(prompt)
    now = 301
    at_301 = cache.look_up(prompt)
    now = 3601
    at_3601 = cache.look_up(prompt)

    assert first.write_1h > 0
    assert first.write_5m > 0
    assert first.total == prompt.tokens
    assert at_299.read == first.write_1h + first.write_5m
    assert (at_301.read, at_301.write_5m, at_301.write_1h) == (first.write_1h, first.write_5m, 0)
    assert at_3601.read == 0


def test_a_changed_beginning_or_another_model_misses_the_cache():
    cache = PromptCache()
    auto = {"type": "ephemeral"}
    cache.keep(cache.look_up(_prompt(cache_control=auto)))

    changed = cache.look_up(_prompt(system="Tally adds up. " * 300, cache_control=auto))
    elsewhere = cache.look_up(_prompt(model=OPUS, cache_control=auto))

    assert changed.read == elsewhere.read == 0


def test_the_look_back_ends_after_twenty_blocks():
    cache = PromptCache()
    auto = {"type": "ephemeral"}
    cache.keep(cache.look_up(_prompt(cache_control=auto)))
    blocks = [{"type": "text", "text": "Hello"}, *[{"type": "text", "text": "more"}] * 20]

    near = cache.look_up(_prompt(cache_control=auto, messages=user(blocks[:20])))
    far = cache.look_up(_prompt(cache_control=auto, messages=user(blocks)))

    assert near.read > 0
    assert far.read == 0


# Keys and rules


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "other"}, {"Authorization": "Bearer other"}])
def test_a_wrong_key_is_not_let_in(post, headers):
    status, body = post(headers={"anthropic-version": "2026-10-21", **headers}, model=SONNET)

    assert status == 401
    assert body["error"]["type"] == "authentication_error"


def test_a_bearer_key_and_an_api_key_are_let_in(post):
    body = {"model": SONNET, "max_tokens": 5, "messages": user("[[sandbox tokens=1]]")}

    by_header, _ = post(**body)
    by_bearer, _ = post(headers={"anthropic-version": "2026-10-21", "Authorization": "Bearer sandbox-key"}, **body)

    assert (by_header, by_bearer) == (200, 200)


_DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
_CITED = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}
_MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
_ASKED = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}
_NOT_DISABLED = (
    '"thinking.type.disabled" is not supported for this model. Use "thinking.type.adaptive" and '
    '"output_config.effort" to control thinking behavior.'
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 0.9}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": "many"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0, "stream": True}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000"),
        ({"model": 5}, "model: Input should be a valid string"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": "Hello"}, "messages: Input should be a valid list"),
        ({"messages": user("")}, "messages.0: all messages must have non-empty content"),
        ({"messages": user(" \n")}, "messages: text content blocks must contain non-whitespace text"),
        (
            {"messages": user([{"type": "text", "text": ""}])},
            "messages: text content blocks must be non-empty",
        ),
        (
            {"messages": user([{"type": "text", "text": 5}])},
            "messages.0.content.0.text.text: Input should be",
        ),
        ({"messages": user([{"type": "video"}])}, "messages.0.content.0: Input tag 'video'"),
        ({"messages": user([_CITED])}, "messages.0.content.0.text.citations: Extra inputs are not permitted"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
        (
            {"messages": [*user("Hi"), {"role": "assistant", "content": "Well"}]},
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ),
        (
            {"messages": [*user("Hi"), {"role": "assistant", "content": [_DOCUMENT]}, *user("Hi")]},
            "messages.1.content.0: Input tag 'document' is not permitted in assistant messages",
        ),
        (
            {"messages": [*user("Hi"), {"role": "assistant", "content": [_ASKED]}, *user("Hi")]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        ),
        (
            {"messages": user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}])},
            "messages.0.content: unexpected `tool_use_id`",
        ),
        (
            {"messages": user([_MARKED] * 5)},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        ({"thinking": {"type": "disabled"}}, _NOT_DISABLED),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            '"thinking.type.enabled" is not supported',
        ),
        ({"model": OPUS, "thinking": {"type": "between_tools"}}, '"thinking.type.between_tools" is not'),
        ({"model": OLD_HAIKU, "thinking": {"type": "adaptive"}}, '"thinking.type.adaptive" is not supported'),
        (
            {"model": HAIKU, "thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            '"thinking.type.disabled" is not supported with',
        ),
        (
            {"model": OLD_HAIKU, "thinking": {"type": "enabled", "budget_tokens": 2000}},
            "`max_tokens` must be greater than",
        ),
        (
            {"model": OLD_HAIKU, "output_config": {"effort": "low"}},
            "output_config.effort: This model does not",
        ),
        (
            {"model": OLD_SONNET, "output_config": {"effort": "xhigh"}},
            "output_config.effort: Input should be",
        ),
        ({"tools": [LOOK_UP], "tool_choice": {"type": "any"}}, 'tool_choice.type "any" is not supported'),
        ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while providing tools"),
        ({"speed": "fast"}, "speed: fast mode is not supported for this model"),
        ({"model": OLD_HAIKU, "inference_geo": "us"}, "inference_geo: not supported for this model"),
        ({"messages": user("[[sandbox colour=red]]")}, "sandbox: unknown key 'colour'"),
        ({"messages": user("[[sandbox tokens=-1]]")}, "sandbox: bad value for 'tokens'"),
        ({"messages": user("[[sandbox rate=nan]]")}, "sandbox: bad value for 'rate'"),
    ],
)
def test_what_the_api_refuses_is_a_400_in_its_words(post, sandbox, change, message):
    body = {"model": SONNET, "max_tokens": 100, "messages": user("Hello"), **change}

    status, answer = post(**{name: value for name, value in body.items() if value is not None})

    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert answer["error"]["message"].startswith(message)
    assert sandbox.invoice == []


@pytest.mark.parametrize("model", ["claude-nope", "claude-3-opus"])
def test_an_unknown_model_is_not_found(post, model):
    status, answer = post(model=model, max_tokens=5, messages=user("Hi"))

    assert (status, answer["error"]["message"]) == (404, f"model: {model}")


def test_a_model_that_takes_prefill_goes_on_from_it(post):
    turns = [*user("[[sandbox tokens=1]]"), {"role": "assistant", "content": "Well,"}]

    status, answer = post(model=OLD_HAIKU, max_tokens=5, messages=turns)

    assert status == 200
    assert answer["model"] == "claude-haiku-4-5-20251001"


def test_the_older_api_version_still_takes_sampling_parameters(post):
    headers = {**VERSION, "anthropic-version": "2023-06-01"}

    status, _ = post(headers=headers, model=SONNET, max_tokens=5, temperature=1, messages=user("[[sandbox tokens=1]]"))

    assert status == 200


def test_a_prompt_beyond_the_window_is_too_long(client):
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 200000 maximum"):
        ask(client, user("1 " * 210000), model=OLD_HAIKU)


def test_a_body_beyond_32_megabytes_is_too_large(client):
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        ask(client, user("x" * 33 * 1024 * 1024))

    assert refused.value.type == "request_too_large"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"', b"[" * 100_000])
def test_a_body_that_is_no_request_is_a_400(sandbox, body):
    request = urllib.request.Request(f"{sandbox.url}/v1/messages", body, VERSION)

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)

    refused.value.close()
    assert refused.value.code == 400


# Thinking that is sent back


def _thought(client, question="[[sandbox say=Yes thinking=20]] Well?", model=OPUS, **more):
    first = user(question)
    message = ask(client, first, model=model, **more)
    content = [block.to_dict(mode="json") for block in message.content]
    return [*first, {"role": "assistant", "content": content}, *user("[[sandbox say=Right]] And?")]


def test_untouched_thinking_is_taken_back_and_read_as_input(client):
    turns = _thought(client)
    stripped = [turns[0], {"role": "assistant", "content": "Yes"}, turns[2]]

    with_thinking = ask(client, turns, model=OPUS)
    without = ask(client, stripped, model=OPUS)

    assert with_thinking.usage.input_tokens == without.usage.input_tokens + 20


@pytest.mark.parametrize("change", ["question", "system", "tools"])
def test_thinking_is_bound_to_what_stood_before_it(client, change):
    turns = _thought(client)
    more = {"system": {"system": "New."}, "tools": {"tools": [LOOK_UP]}}.get(change, {})
    if change == "question":
        turns[0]["content"] = "Something else?"

    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(client, turns, model=OPUS, **more)

    assert refused.value.api_message.startswith("messages.1.content.0: Invalid `signature` in `thinking` block. The")
    assert "bound to a different conversation" in refused.value.api_message


def test_removing_some_thinking_breaks_the_rest_and_removing_all_does_not(client):
    turns = _thought(client)
    turns[-1]["content"] = "[[sandbox say=Right thinking=10]] And?"
    message = ask(client, turns, model=OPUS)
    turns += [
        {"role": "assistant", "content": [b.to_dict(mode="json") for b in message.content]},
        *user("So?"),
    ]

    ask(client, turns, model=OPUS)
    turns[1]["content"] = turns[1]["content"][1:]
    with pytest.raises(anthropic.BadRequestError):
        ask(client, turns, model=OPUS)
    turns[3]["content"] = turns[3]["content"][1:]
    ask(client, turns, model=OPUS)


def test_another_models_thinking_is_dropped_without_a_word(client):
    turns = _thought(client)
    turns[0]["content"] = "Something else?"

    message = ask(client, turns)

    assert message.content[-1].text == "Right"


def test_a_mismatch_can_be_dropped_on_request(client):
    turns = _thought(client)
    turns[0]["content"] = "Something else?"
    thinking = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}

    message = client.beta.messages.create(
        model=OPUS,
        max_tokens=50,
        messages=turns,
        thinking=thinking,
        betas=["thinking-binding-controls-2026-08-01"],
    )

    assert message.content[-1].text == "Right"


def test_a_made_up_signature_is_refused(client):
    forged = {"type": "thinking", "thinking": "", "signature": base64.b64encode(b"x" * 80).decode()}
    turns = [*user("Hi"), {"role": "assistant", "content": [forged]}, *user("Hi")]

    with pytest.raises(anthropic.BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature`"):
        ask(client, turns, model=OPUS)


# Faults before the stream


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ("400", anthropic.BadRequestError, 400),
        ("401", anthropic.AuthenticationError, 401),
        ("402", anthropic.PaymentRequiredError, 402),
        ("413", anthropic.ContentTooLargeError, 413),
        ("429", anthropic.RateLimitError, 429),
        ("500", anthropic.InternalServerError, 500),
        ("502html", anthropic.InternalServerError, 502),
        ("529", anthropic.OverloadedError, 529),
        ("too_long", anthropic.BadRequestError, 400),
        ("org_limit", anthropic.BadRequestError, 400),
        ("workspace_limit", anthropic.BadRequestError, 400),
        ("spend_limit", anthropic.EnforcedSpendLimitReachedError, 429),
    ],
)
def test_a_scripted_status_is_the_sdks_error_and_bills_nothing(client, sandbox, status, kind, code):
    _, error = stream(client, f"[[sandbox status={status}]] Hello")

    assert isinstance(error, kind)
    assert error.status_code == code
    assert error.request_id == sandbox.requests[0]["request_id"]
    assert sandbox.invoice == []


def test_retry_after_is_sent_but_not_with_a_spend_limit(client):
    _, busy = stream(client, "[[sandbox status=429 retry_after=7]] Hello")
    _, broke = stream(client, "[[sandbox status=spend_limit]] Hello")

    assert busy.response.headers["retry-after"] == "7"
    assert "retry-after" not in broke.response.headers


def test_a_fault_with_times_goes_away(client):
    outcomes = [stream(client, "[[sandbox status=529 times=2 say=Here]] Hello") for _ in range(3)]

    assert [type(error) for _, error in outcomes[:2]] == [anthropic.OverloadedError] * 2
    assert text_of(outcomes[2][0]) == "Here"


def test_the_sdk_retries_an_overload_by_itself(client, sandbox):
    patient = client.with_options(max_retries=2)

    events, error = stream(patient, "[[sandbox status=529 times=1 say=Here]] Hello")

    assert (text_of(events), error) == ("Here", None)
    assert [request["headers"]["x-stainless-retry-count"] for request in sandbox.requests] == ["0", "1"]
    assert len(sandbox.invoice) == 1


def test_a_hang_before_the_headers_is_a_timeout_and_bills_the_input(client, sandbox):
    hasty = client.with_options(timeout=0.1)

    events, error = stream(hasty, "[[sandbox hang=30]] Hello")

    assert (events, type(error)) == ([], anthropic.APITimeoutError)
    line = only_line(sandbox)
    assert (line.ended, line.output_tokens) == ("client_left", 0)
    assert line.cost_nanos == line.input_tokens * 2000


def test_a_reset_before_the_headers_is_a_connection_error_and_bills_the_input(client, sandbox):
    events, error = stream(client, "[[sandbox rst_before_headers]] Hello")

    assert (events, type(error)) == ([], anthropic.APIConnectionError)
    assert (only_line(sandbox).ended, only_line(sandbox).output_tokens) == ("cut", 0)


# Faults within the stream


def test_an_error_as_the_first_event_bills_nothing(client, sandbox):
    events, error = stream(client, "[[sandbox error_at=0]] Hello")

    assert events == []
    assert (type(error), error.status_code, error.type) == (anthropic.APIStatusError, 200, "overloaded_error")
    assert sandbox.invoice == []


@pytest.mark.parametrize(
    ("fault", "kind", "ended"),
    [
        ("error_at=5", anthropic.APIStatusError, "error"),
        ("cut_at=5", httpx2.RemoteProtocolError, "cut"),
        ("rst_at=5", (httpx2.ReadError, httpx2.RemoteProtocolError), "cut"),
        ("eof_at=5", type(None), "cut"),
    ],
)
def test_a_broken_stream_bills_one_token_more_than_it_sent(client, sandbox, fault, kind, ended):
    events, error = stream(client, f"[[sandbox {fault} tokens=20 rate=200]] Hello")

    line = only_line(sandbox)
    assert isinstance(error, kind)
    assert "message_delta" not in [event["type"] for event in events]
    assert (line.ended, line.output_tokens) == (ended, 6)
    assert line.cost_nanos == line.input_tokens * 2000 + 6 * 10_000


def test_tokens_generated_after_the_cut_are_billed(client, sandbox):
    stream(client, "[[sandbox cut_at=5 after=10 tokens=20]] Hello")

    assert only_line(sandbox).output_tokens == 15


def test_a_stream_without_message_delta_ends_without_an_exception(client, sandbox):
    events, error = stream(client, "[[sandbox no_delta tokens=5]] Hello")

    assert error is None
    assert events[-1]["type"] == "content_block_stop"
    assert (only_line(sandbox).ended, only_line(sandbox).output_tokens) == ("cut", 5)


def test_silence_is_a_read_timeout_and_bills_what_was_generated(client, sandbox):
    hasty = client.with_options(timeout=0.15)

    events, error = stream(hasty, "[[sandbox stall_at=4 tokens=20]] Hello")

    assert isinstance(error, httpx2.ReadTimeout)
    assert len([event for event in events if event["type"] == "content_block_delta"]) == 4
    assert (only_line(sandbox).ended, only_line(sandbox).output_tokens) == ("client_left", 4)


def test_a_stall_can_end(client):
    events, error = stream(client, "[[sandbox stall_at=4 stall=0.1 tokens=20]] Hello")

    assert error is None
    assert ending(events)["usage"]["output_tokens"] == 20


def test_pings_can_go_on_for_ever(sandbox):
    with _raw(sandbox, "[[sandbox ping_forever_at=2 tokens=20]] Hello") as connection:
        seen = b""
        while seen.count(b"event: ping") < 4:
            seen += connection.recv(65536)

    assert seen.count(b"text_delta") == 2
    assert (only_line(sandbox).ended, only_line(sandbox).output_tokens) == ("client_left", 2)


@pytest.mark.parametrize(("fault", "kind"), [("bad_json_at=3", ValueError), ("bad_utf8_at=3", UnicodeDecodeError)])
def test_a_malformed_frame_is_sent_after_the_tokens_before_it(client, fault, kind):
    events, error = stream(client, f"[[sandbox {fault} tokens=20]] Hello")

    assert isinstance(error, kind)
    assert len(events) <= 2 + 3


def test_unknown_events_blocks_and_usage_pass(client):
    events, error = stream(client, "[[sandbox unknown_event unknown_block unknown_usage tokens=5]] Hello")

    assert error is None
    assert "sandbox_novelty" in [event["type"] for event in events]
    assert events[0]["message"]["usage"]["sandbox_units"] == 7
    assert ending(events)["usage"]["sandbox_units"] == 7


def test_nul_and_lone_surrogates_arrive_as_they_were_escaped(client):
    events, _ = stream(client, "[[sandbox nul surrogate tokens=4]] Hello")

    assert "before\x00after" in text_of(events)
    assert "\ud83d\ude00 alone: \ud800 " in text_of(events)


def test_one_event_can_be_large(client, sandbox):
    events, _ = stream(client, "[[sandbox big_event=1000000 tokens=4]] Hello", max_tokens=128_000, model=OLD_SONNET)
    bounded, _ = stream(client, "[[sandbox big_event=1000000 tokens=4]] Hello", max_tokens=100)

    whole = max(len(event["delta"].get("text", "")) for event in events if event["type"] == "content_block_delta")
    assert whole > 400_000
    assert ending(events)["usage"]["output_tokens"] == 128_000
    assert ending(bounded)["usage"]["output_tokens"] == 100


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("refusal_mid", "refusal"),
        ("pause_turn", "pause_turn"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("something_new", "something_new"),
    ],
)
def test_each_stop_reason_is_billed(client, sandbox, stop, reason):
    events, _ = stream(client, f"[[sandbox stop={stop} tokens=10]] Hello")

    line = only_line(sandbox)
    assert ending(events)["delta"]["stop_reason"] == reason
    assert line.output_tokens == ending(events)["usage"]["output_tokens"] > 0
    assert line.ended == ("refused" if reason == "refusal" else "complete")
    assert line.cost_nanos == line.input_tokens * 2000 + line.output_tokens * 10_000


def test_a_refusal_before_any_output_is_free(client, sandbox):
    events, _ = stream(client, "[[sandbox stop=refusal]] Hello")

    assert ending(events)["delta"]["stop_details"]["category"] == "cyber"
    assert ending(events)["usage"]["output_tokens"] == 0
    assert ending(events)["usage"]["input_tokens"] > 0
    assert (only_line(sandbox).ended, only_line(sandbox).cost_nanos) == ("refused", 0)


def test_an_empty_answer_still_costs_three_tokens(client, sandbox):
    message = ask(client, "[[sandbox stop=end_empty]] Hello")

    assert (message.content, message.stop_reason) == ([], "end_turn")
    assert only_line(sandbox).output_tokens == 3


def test_a_paused_turn_is_taken_up_where_it_was(client):
    first = user("[[sandbox stop=pause_turn times=1 say=So]] Go")
    message = ask(client, first)
    content = [block.to_dict(mode="json") for block in message.content]

    second = ask(client, [*first, {"role": "assistant", "content": content}])

    assert (message.stop_reason, second.stop_reason) == ("pause_turn", "end_turn")


def test_a_client_that_leaves_pays_for_what_was_generated(client, sandbox):
    with client.messages.create(
        model=OPUS,
        max_tokens=1000,
        stream=True,
        messages=user("[[sandbox tokens=500 thinking=5 rate=100]] Hi"),
    ) as response:
        for event in response:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                break

    line = only_line(sandbox)
    assert line.ended == "client_left"
    assert 6 <= line.output_tokens < 60
    assert line.thinking_tokens == 5
    assert line.cost_nanos == line.input_tokens * 4000 + line.output_tokens * 20_000


# The invoice


PRICES = {model.id: model.price for model in Catalogue().models}
NOTHING = {"input_tokens": 0, "cache_write_5m": 0, "cache_write_1h": 0, "cache_read": 0, "output_tokens": 0}


@pytest.mark.parametrize(
    ("model", "used", "nanos"),
    [
        (SONNET, {"input_tokens": 1000, "output_tokens": 500}, 2_000_000 + 5_000_000),
        (OPUS, {"cache_write_5m": 100, "cache_write_1h": 10, "cache_read": 1000}, 500_000 + 80_000 + 200_000),
        (OPUS, {"input_tokens": 10, "output_tokens": 10, "fast": True}, 2 * 240_000),
        (SONNET, {"input_tokens": 1, "us": True}, 2_200),
        (HAIKU, {"input_tokens": 1, "us": True}, 110),
        # 7 x 10 x 1.1 = 77; 1 x 10 x 1.1 = 11: exact; 0.125 x 1.1 = 137.5 is rounded up, once.
        (HAIKU, {"cache_read": 7, "us": True}, 77),
        (HAIKU, {"cache_write_5m": 1, "us": True}, 138),
        (HAIKU, {"cache_write_5m": 2, "us": True}, 275),
        (HAIKU, {"input_tokens": 100_000, "output_tokens": 10}, 10_000_000 + 5_000),
        (HAIKU, {"input_tokens": 100_001, "output_tokens": 10}, 50_000_500 + 25_000),
        (HAIKU, {"cache_read": 90_000, "cache_write_5m": 10_001}, 4_500_000 + 6_250_625),
        (SONNET, {"web_searches": 2, "us": True}, 20_000_000),
        (SONNET, {"output_tokens": 5, "thinking_tokens": 5}, 50_000),
    ],
)
def test_the_invoice_is_right_to_the_nano_dollar(model, used, nanos):
    assert cost_nanos(PRICES[model], **{**NOTHING, **used}) == nanos


def test_the_price_in_force_is_the_one_that_counts():
    sonnet = Catalogue().get(SONNET)

    assert [row["cache_read"] for row in sonnet.prices] == ["0.20", "0.10"]
    assert sonnet.price["cache_read"] == "0.10"


def test_a_cached_turn_is_invoiced_by_its_kinds(client, sandbox):
    long = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "Tally counts. " * 300, "cache_control": long}]
    for _ in range(2):
        ask(client, "[[sandbox tokens=5]] Hello", model=OPUS, system=system)

    first, second = sandbox.invoice

    assert first.cache_write_1h == second.cache_read > 512
    assert first.cache_write_5m == first.cache_read == second.cache_write_1h == 0
    assert first.cost_nanos == first.cache_write_1h * 8000 + first.input_tokens * 4000 + 5 * 20_000
    assert second.cost_nanos == second.cache_read * 200 + second.input_tokens * 4000 + 5 * 20_000


def test_the_cost_report_adds_up_the_invoice_in_cents(client, sandbox):
    for model in (OPUS, SONNET):
        ask(client, "[[sandbox tokens=5]] Hello", model=model)
    today = sandbox.invoice[0].at[:10]

    admin = client.copy(api_key="sandbox-admin-key")
    query = {"starting_at": f"{today}T00:00:00Z"}
    report = admin.get("/v1/organizations/cost_report", cast_to=object, options={"params": query})
    query["group_by[]"] = "description"
    grouped = admin.get("/v1/organizations/cost_report", cast_to=object, options={"params": query})

    total = sum(line.cost_nanos for line in sandbox.invoice)
    (result,) = report["data"][0]["results"]
    assert float(result["amount"]) == pytest.approx(total / 10_000_000)
    assert {row["model"] for row in grouped["data"][0]["results"]} == {OPUS, SONNET}
    with pytest.raises(anthropic.AuthenticationError):
        client.get("/v1/organizations/cost_report", cast_to=object, options={"params": query})


# The Models API


def test_the_models_are_listed_with_limits_and_capabilities(client):
    models = list(client.models.list(limit=5))

    sonnet = next(model for model in models if model.id == SONNET)
    assert len(models) == len(Catalogue().models)
    assert (sonnet.max_input_tokens, sonnet.max_tokens, sonnet.lifecycle) == (1_000_000, 128_000, "active")
    assert sonnet.capabilities.thinking.types.between_tools.supported
    assert not sonnet.capabilities.thinking.types.disabled.supported


def test_a_model_is_found_by_its_alias_and_only_if_it_exists(client):
    assert client.models.retrieve(OLD_HAIKU).id == "claude-haiku-4-5-20251001"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-nope")


# Driving it


def test_what_is_enqueued_goes_to_the_first_request_that_matches(client, sandbox):
    sandbox.enqueue(match="lamp", say="For the lamp")
    sandbox.enqueue(say="For anybody")

    said = [text_of(stream(client, text)[0]) for text in ("A book", "A lamp", "[[sandbox say=Own]] A book")]

    assert said == ["For anybody", "For the lamp", "Own"]


def test_counting_can_be_made_to_fail_alone(client, sandbox):
    sandbox.enqueue(status="529", on="count_tokens")

    events, error = stream(client, "[[sandbox tokens=1]]")
    with pytest.raises(anthropic.OverloadedError):
        client.messages.count_tokens(model=SONNET, messages=user("Hi"))

    assert (error, bool(events)) == (None, True)


def test_another_process_can_drive_it(sandbox, post):
    post("/_sandbox/enqueue", say="From afar", times=2)
    post(model=SONNET, max_tokens=50, messages=user("Hi"))

    with urllib.request.urlopen(f"{sandbox.url}/_sandbox/invoice") as response:
        invoice = json.load(response)
    with urllib.request.urlopen(f"{sandbox.url}/_sandbox/requests") as response:
        requests = json.load(response)["requests"]
    post("/_sandbox/reset")

    assert (len(invoice["lines"]), invoice["live"]) == (1, 0)
    assert requests[0]["body"]["messages"] == user("Hi")
    assert (sandbox.requests, sandbox.invoice) == ([], [])


def test_requests_that_arrive_together_on_one_connection_are_answered_in_order(sandbox):
    with _raw(sandbox, "[[sandbox say=One]]", close=False) as connection:
        connection.sendall(_request("[[sandbox say=Two]]", close=True))
        answer = _read_all(connection)

    assert answer.index(b"One") < answer.index(b"Two")


def test_as_a_process_it_says_where_it_is_and_ends_on_sigterm():
    process = subprocess.Popen(
        [sys.executable, "-m", "chat.sandbox", "--key", "k", "--ttft", "1", "--rate", "1000"],
        stdout=subprocess.PIPE,
    )
    with process:
        url = process.stdout.readline().decode().removeprefix("Sandbox model: ").strip()
        with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:
            events, error = stream(client, "[[sandbox say=Here]]")
        memory = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        process.send_signal(signal.SIGTERM)

        assert (text_of(events), error) == ("Here", None)
        assert memory < 35 * 1024 * 1024
        assert process.wait(timeout=5) == 0


def test_it_ends_though_a_client_keeps_its_connection_and_another_still_listens():
    sandbox = Sandbox(ttft_ms=1)
    sandbox.start()
    idle = anthropic.Anthropic(api_key="sandbox-key", base_url=sandbox.url, max_retries=0)
    with idle, _raw(sandbox, "[[sandbox stall_at=1]]") as waiting:
        stream(idle, "[[sandbox tokens=1]]")
        started = time.monotonic()

        sandbox.stop()

        with pytest.raises(ConnectionResetError):
            _read_all(waiting)
        assert time.monotonic() - started < 5


def _request(text, close):
    body = json.dumps({"model": SONNET, "max_tokens": 100, "stream": True, "messages": user(text)}).encode()
    headers = {
        **VERSION,
        "host": "sandbox",
        "content-length": len(body),
        "connection": "close" if close else "keep-alive",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/messages HTTP/1.1\r\n{lines}\r\n".encode() + body


@contextlib.contextmanager
def _raw(sandbox, text, close=True):
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(_request(text, close))
        yield connection


def _read_all(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))
