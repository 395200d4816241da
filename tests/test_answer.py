"""An answer as the wire brings it: the samples of the API's documentation, event by event."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.claude.answer import Answer
from chat.claude.client import Claude
from chat.claude.errors import ClaudeError
from chat.pricing import Usage
from tests.books import bounded


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def start(index=0, **block):
    block = block if "type" in block else {"type": "text", "text": "", **block}
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index=0, **fields):
    [(kind, value)] = fields.items()
    types = {"text": "text_delta", "thinking": "thinking_delta", "signature": "signature_delta"}
    types |= {"partial_json": "input_json_delta", "citation": "citations_delta"}
    return {"type": "content_block_delta", "index": index, "delta": {"type": types[kind], kind: value}}


def stop(index=0):
    return {"type": "content_block_stop", "index": index}


def begin(model="claude-sonnet-5-5", **usage):
    usage = {"input_tokens": 25, "output_tokens": 1, **usage}
    return {"type": "message_start", "message": {"id": "msg_01", "model": model, "content": [], "usage": usage}}


def end(stop_reason="end_turn", details=None, **usage):
    ending = {"stop_reason": stop_reason, "stop_sequence": None, "stop_details": details}
    return [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]


PING = {"type": "ping"}
TEXT = [
    begin(cache_creation_input_tokens=0, cache_read_input_tokens=0, service_tier="standard", inference_geo="global"),
    start(),
    PING,
    delta(text="Hello"),
    delta(text="!"),
    stop(),
    *end(input_tokens=25, output_tokens=15),
]
THINKING = [
    begin(model="claude-opus-5-5", input_tokens=61, output_tokens=2),
    start(type="thinking", thinking="", signature=""),
    delta(thinking="1071 = 2*462 + 147; 462 = 3*147 + 21."),
    delta(signature="EqQBCgIYAhIM1gbc"),
    stop(),
    start(1),
    delta(1, text="The GCD is **21**."),
    stop(1),
    *end(output_tokens=188, output_tokens_details={"thinking_tokens": 171}),
]
CITATION = {
    "type": "web_search_result_location",
    "cited_text": "Sunny, 12 C",
    "url": "https://example.com/nyc",
    "title": "Weather in New York",
    "encrypted_index": "Eo8BCioIAhgB",
}
RESULT = {
    "type": "web_search_result",
    "url": "https://example.com/nyc",
    "encrypted_content": "Ev0DCioI",
    "page_age": None,
}
SEARCH = [
    begin(input_tokens=2679, output_tokens=3),
    start(),
    delta(text="I'll check the weather."),
    stop(),
    start(1, type="server_tool_use", id="srvtoolu_014", name="web_search", input={}),
    delta(1, partial_json=""),
    delta(1, partial_json='{"query": "weather '),
    delta(1, partial_json='NYC today"}'),
    stop(1),
    PING,
    start(2, type="web_search_tool_result", tool_use_id="srvtoolu_014", content=[RESULT]),
    stop(2),
    start(3, citations=[]),
    delta(3, citation=CITATION),
    delta(3, text="It is sunny, 12 C."),
    stop(3),
    *end(input_tokens=10682, output_tokens=510, server_tool_use={"web_search_requests": 1, "web_fetch_requests": 0}),
]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def answer(clock):
    return Answer(clock)


@pytest.fixture
def feed(answer, clock):
    """`feed(event, 3, event)`: a number lets so many seconds pass."""

    def feed(*steps) -> Answer:
        for step in steps:
            if isinstance(step, int | float):
                clock.now += step
            else:
                answer.feed(copy.deepcopy(step))
        return answer

    return feed


def test_a_text_arrives(feed):
    answer = feed(*TEXT)

    assert answer.text == "Hello!"
    assert answer.blocks == [{"type": "text", "text": "Hello!"}]
    assert (answer.message_id, answer.model) == ("msg_01", "claude-sonnet-5-5")
    assert (answer.stop_reason, answer.finished) == ("end_turn", True)
    assert Usage.read(answer.usage) == Usage(input=25, output=15)


def test_new_text_is_what_has_not_been_taken_yet(feed, answer):
    feed(*TEXT[:4])
    assert answer.new_text == ["Hello"]

    answer.new_text.clear()
    feed(*TEXT[4:])

    assert answer.new_text == ["!"]
    assert answer.text == "Hello!"


def test_thinking_is_kept_with_its_signature_and_is_no_text(feed):
    answer = feed(*THINKING)

    assert answer.text == "The GCD is **21**."
    assert answer.new_thinking == ["1071 = 2*462 + 147; 462 = 3*147 + 21."]
    assert answer.blocks[0] == {
        "type": "thinking",
        "thinking": "1071 = 2*462 + 147; 462 = 3*147 + 21.",
        "signature": "EqQBCgIYAhIM1gbc",
    }
    assert Usage.read(answer.usage) == Usage(input=61, output=188, thinking=171)


def test_thinking_that_is_not_shown_keeps_its_signature(feed):
    answer = feed(THINKING[0], THINKING[1], *THINKING[3:])

    assert answer.blocks[0] == {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIM1gbc"}
    assert answer.new_thinking == []


def test_a_refusal_before_any_output_has_no_blocks_and_says_why(feed):
    details = {"type": "refusal", "category": "cyber", "explanation": "Declined."}

    answer = feed(begin(input_tokens=412, output_tokens=0), *end("refusal", details, input_tokens=412, output_tokens=0))

    assert (answer.stop_reason, answer.stop_details) == ("refusal", details)
    assert (answer.blocks, answer.text, answer.finished) == ([], "", True)
    assert answer.usage["output_tokens"] == 0


def test_a_search_is_kept_in_the_shape_in_which_it_has_to_go_back(feed):
    answer = feed(*SEARCH)

    said, asked, found, told = answer.blocks
    assert said == {"type": "text", "text": "I'll check the weather."}
    assert asked["input"] == {"query": "weather NYC today"}
    assert found["content"] == [RESULT]
    assert told == {"type": "text", "text": "It is sunny, 12 C.", "citations": [CITATION]}
    assert answer.text == "I'll check the weather.It is sunny, 12 C."


def test_the_input_that_grew_by_searching_is_what_counts(feed):
    answer = feed(*SEARCH)

    assert answer.start_usage["input_tokens"] == 2679
    assert Usage.read(answer.usage) == Usage(input=10682, output=510, searches=1)


def test_a_tool_call_has_its_whole_input(feed):
    answer = feed(
        begin(),
        start(type="tool_use", id="toolu_01", name="get_weather", input={}),
        delta(partial_json='{"location": "San'),
        delta(partial_json=' Francisco, CA"}'),
        stop(),
        *end("tool_use", output_tokens=89),
    )

    assert answer.blocks[0]["input"] == {"location": "San Francisco, CA"}
    assert answer.text == ""
    assert answer.stop_reason == "tool_use"


def test_a_tool_call_that_was_cut_has_no_input(feed):
    answer = feed(begin(), start(type="tool_use", id="t", name="n", input={}), delta(partial_json='{"location": "San'))

    assert answer.blocks[0]["input"] == {}


def test_an_empty_text_block_is_left_out_since_the_api_would_not_take_it_back(feed):
    answer = feed(begin(), start(), stop(), *end(output_tokens=2))

    assert answer.blocks == []
    assert answer.finished


def test_text_that_comes_with_the_start_of_its_block_is_seen(feed):
    answer = feed(begin(), start(text="Hel"), delta(text="lo"))

    assert answer.text == "Hello"
    assert answer.new_text == ["Hel", "lo"]


def test_blocks_stand_in_the_order_of_their_index(feed):
    answer = feed(begin(), start(1, text="second"), start(0, text="first "))

    assert answer.text == "first second"


# --- Usage


def test_the_last_word_about_usage_counts_and_silence_changes_nothing(feed):
    answer = feed(
        begin(
            cache_read_input_tokens=7, cache_creation={"ephemeral_5m_input_tokens": 3}, cache_creation_input_tokens=3
        ),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5, "cache_read_input_tokens": None}},
        *end(output_tokens=9, dreaming_tokens=2),
    )

    assert answer.usage["output_tokens"] == 9
    assert Usage.read(answer.usage) == Usage(input=25, cache_write_5m=3, cache_read=7, output=9, unknown=2)
    assert answer.start_usage["output_tokens"] == 1


def test_a_second_ending_without_a_reason_keeps_the_first_reason(feed):
    answer = feed(
        begin(), *end("max_tokens", output_tokens=3), {"type": "message_delta", "usage": {"output_tokens": 4}}
    )

    assert answer.stop_reason == "max_tokens"
    assert answer.usage["output_tokens"] == 4


def test_a_stream_that_ends_is_not_a_stream_that_finished(feed, answer):
    feed(*TEXT[:-1]).end()

    assert answer.stop_reason == "end_turn"
    assert not answer.finished


# --- Time


def test_the_first_token_is_timed_from_the_request(feed, clock):
    answer = feed(0.5, begin(), 0.25, start(), PING, 1, delta(text="Hi"), 2, delta(text="!"))
    clock.now += 1
    answer.end()
    clock.now += 60

    assert answer.first_token_ms() == 1_750
    assert answer.duration_ms() == 4_750


def test_before_the_first_word_there_is_no_first_token(feed):
    answer = feed(0.5, begin(), start(), delta(text=""))

    assert answer.first_token_ms() is None


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        pytest.param([3], 3, id="nothing came at all"),
        pytest.param([1, begin(), 4], 4, id="silence after the start"),
        pytest.param([begin(), 2, start(), PING, 3, PING, 1], 6, id="pings are not words"),
        pytest.param([begin(), 2, start(), delta(text="a")], 2, id="until the first word"),
        pytest.param([begin(), start(), delta(text="a"), 5, delta(text="b")], 0, id="while words come"),
        pytest.param([begin(), start(), delta(text="a"), 5], 5, id="after the last word"),
        pytest.param(
            [begin(), start(type="thinking"), 2, delta(thinking="hm"), 3, stop(), start(1), 1, delta(1, text="a")],
            6,
            id="thinking, shown or not",
        ),
        pytest.param(
            [begin(), start(), delta(text="a"), stop(), 2, start(1, type="server_tool_use"), 3, stop(1), 4],
            9,
            id="a search",
        ),
        pytest.param(
            [begin(), start(), 1, delta(text="a"), stop(), 2, start(1), delta(1, text="b"), 4, delta(1, text="c"), 8],
            11,
            id="each silence once",
        ),
    ],
)
def test_hidden_seconds_are_those_in_which_words_may_have_been_made_that_we_did_not_see(feed, clock, steps, seconds):
    answer = feed(*steps)
    assert answer.hidden_seconds() == seconds

    answer.end()
    clock.now += 100

    assert answer.hidden_seconds() == seconds


PIECES = st.sampled_from([begin(), start(), start(1), PING, delta(text="a"), stop(), {"type": "dream"}]) | st.integers(
    0, 9
)


@bounded
@given(steps=st.lists(PIECES, max_size=20))
def test_hidden_seconds_are_never_negative_and_never_more_than_all_of_them(steps):
    clock = Clock()
    answer = Answer(clock)
    answer.feed(begin())
    answer.feed(start())
    for step in steps:
        if isinstance(step, int):
            clock.now += step
        else:
            answer.feed(step)

        assert 0 <= answer.hidden_seconds() <= clock.now - answer.sent_at


def test_pings_and_unknown_events_are_signs_of_life_but_not_progress(feed):
    answer = feed(1, begin(), 2, PING, 3, {"type": "dream"})

    assert answer.last_event_at == 1_006
    assert answer.last_progress_at == 1_001


# --- What nobody has told us about


def test_unknown_events_blocks_and_deltas_are_let_through(feed):
    answer = feed(
        begin(),
        {"type": "dream_start", "dream": {}},
        {},
        start(0, type="dream", picture="…"),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "dream_delta", "picture": "…"}},
        stop(0),
        start(1, text="Awake"),
        *end("something_new", output_tokens=3),
    )

    assert answer.text == "Awake"
    assert answer.blocks[0]["type"] == "dream"
    assert answer.stop_reason == "something_new"


@pytest.mark.parametrize("text", ["a\x00b", "a\ud83db", "\x00", "\udfff"])
def test_text_that_no_database_can_store_is_made_storable(feed, text):
    answer = feed(begin(), start(), delta(text=text), delta(text="!"))

    assert "\x00" not in answer.text
    json.dumps(answer.blocks, ensure_ascii=False).encode()


def test_what_is_hidden_deep_in_a_block_is_made_storable_too(feed):
    answer = feed(begin(), start(type="web_search_tool_result", content=[{"title": "a\x00\ud800", "\x00": 1}]))

    assert answer.blocks[0]["content"] == [{"title": "a\ufffd", "": 1}]


@bounded
@given(pieces=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1), min_size=1))
def test_any_text_in_any_pieces_is_the_text(pieces):
    answer = Answer(Clock())
    for event in [begin(), start(), *(delta(text=piece) for piece in pieces), stop(), *end(output_tokens=9)]:
        answer.feed(event)

    assert answer.text == "".join(pieces) == "".join(answer.new_text)


# --- Broken input


BROKEN = [
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "no index"}},
    {"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "no such block"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta"}},
    {"type": "content_block_delta", "index": [], "delta": {"type": "text_delta", "text": "a"}},
    {"type": "content_block_delta", "index": 0, "delta": "text"},
    {"type": "content_block_start", "content_block": {"type": "text"}},
    {"type": "message_start", "message": "hello"},
    {"type": "message_delta", "usage": [1]},
]
UNREADABLE = [
    [],
    "text",
    7,
    {"type": "error", "error": "overloaded"},
    {"type": "content_block_start", "index": 0, "content_block": "text"},
    {"type": "message_start", "message": {"usage": "many"}},
]


@pytest.mark.parametrize(
    "event",
    [*BROKEN, *UNREADABLE],
    ids=lambda event: json.dumps(event),
)
def test_a_frame_that_cannot_be_read_is_a_cut_and_keeps_what_was_there(feed, answer, event):
    feed(begin(), start(text="So far"))

    with pytest.raises(ClaudeError) as error:
        Claude._take(event, answer)

    assert error.value.kind == "cut"
    assert not error.value.unbilled
    assert answer.text == "So far"
    assert answer.start_usage["input_tokens"] == 25


@pytest.mark.parametrize(
    ("events", "kind", "unbilled"),
    [([], "busy", True), ([begin()], "cut", False), (TEXT[:4], "cut", False)],
)
def test_an_error_event_is_free_before_the_start_and_a_cut_after_it(feed, answer, events, kind, unbilled):
    feed(*events)

    with pytest.raises(ClaudeError) as error:
        Claude._take({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, answer)

    assert (error.value.kind, error.value.unbilled) == (kind, unbilled)
