"""The line below an answer: what it took, what caching saved, and no figure that nobody knows."""

import re
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from chat import spend, thread
from chat.engine import Run
from chat.models import Turn, UsageRecord
from chat.money import spoken
from chat.pricing import Terms, Usage
from chat.sweeper import Sweeper

pytestmark = pytest.mark.django_db

MILLION = 1_000_000


@pytest.fixture
def settled(conversation, alice):
    """`settled(input=10, output=20)`: a turn that is over, with one settled call of that usage."""

    def settled(*, exact=True, state=Turn.State.DONE, stop_reason="end_turn", facts=None, **tokens) -> Turn:
        turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
        terms = Terms(input_bound=50_000, searches=tokens.get("searches", 0))
        call = spend.Call(
            user=alice,
            purpose=UsageRecord.Purpose.REPLY,
            model=turn.model,
            terms=terms,
            wanted_tokens=9_000,
            turn=turn,
        )
        record = spend.admit(call)
        usage = {
            "input_tokens": tokens.get("input", 0),
            "cache_creation_input_tokens": tokens.get("cache_write_5m", 0),
            "cache_read_input_tokens": tokens.get("cache_read", 0),
            "output_tokens": tokens.get("output", 0),
            "server_tool_use": {"web_search_requests": tokens.get("searches", 0)},
        }
        spend.settle(record, Usage(**tokens), exact=exact, usage=usage, **(facts or {"duration_ms": 3_200}))
        turn.reply.write([{"type": "text", "text": "Hi."}])
        turn.reply.keep()
        Turn.objects.filter(id=turn.id).update(state=state, stop_reason=stop_reason, lease_until=None)
        return Turn.objects.get(id=turn.id)

    return settled


@pytest.fixture
def line(browse):
    """The words below the answer of a turn, as the page of its owner has them."""

    def line(turn: Turn) -> str:
        page = browse(turn.user).get(turn.conversation.get_absolute_url()).content.decode()
        footer = re.search(r"<footer.*?</footer>", page, re.DOTALL)[0]
        return " ".join(re.sub(r"<[^>]+>", " ", footer).split())

    return line


def test_the_line_says_model_tokens_cost_and_seconds(settled, line):
    turn = settled(input=1_200, output=340)

    words = line(turn)

    cost = spoken(turn.usage_records.get().cost)
    assert words.startswith(f"Claude Sonnet 5.5 1,200 in, 340 out {cost} 3.2 s Details")


def test_what_caching_saved_is_the_price_without_it_less_the_price(settled, line):
    turn = settled(input=100, cache_write_5m=400, cache_read=20_000, output=50)

    words = line(turn)

    prices = turn.usage_records.get().price_numbers
    without = 20_400 * prices["input"] // MILLION
    paid = (400 * prices["cache_write_5m"] + 20_000 * prices["cache_read"]) // MILLION
    assert f"20,500 in (20,000 cached, saved {spoken(without - paid)}), 50 out" in words
    assert "Put into the cache 400 tokens" in words
    assert "Read from the cache 20,000 tokens" in words


def test_where_writing_the_cache_cost_more_than_reading_saved_nothing_is_said_to_be_saved(settled, line):
    words = line(settled(input=100, cache_write_5m=30_000, cache_read=1_000, output=50))

    assert "31,100 in (1,000 cached), 50 out" in words
    assert "saved" not in words


def test_thinking_and_searches_with_their_fee_stand_in_the_details(settled, line):
    words = line(settled(input=100, output=500, thinking=400, searches=2))

    assert "2 web searches" in words
    assert "Fee for searching $0.02, in the cost" in words
    assert "Written 500 tokens, of them 400 of thinking" in words


@pytest.mark.parametrize(
    ("state", "stop_reason", "words"),
    [
        (Turn.State.DONE, "end_turn", ""),
        (Turn.State.DONE, "max_tokens", "cut at its limit"),
        (Turn.State.DONE, "novelty", "ended early"),
        (Turn.State.STOPPED, "", "stopped"),
        (Turn.State.INTERRUPTED, "", "interrupted"),
    ],
)
def test_the_line_says_why_it_ended_unless_it_is_simply_done(settled, line, state, stop_reason, words):
    shown = line(settled(input=10, output=20, state=state, stop_reason=stop_reason))

    assert shown.endswith("tokens Written 20 tokens")
    assert f"3.2 s {words} Details".replace("  ", " ") in shown


def test_an_effort_that_was_chosen_is_named(settled, line):
    turn = settled(input=10, output=20)
    Turn.objects.update(effort="deep")

    assert line(turn).startswith("Claude Sonnet 5.5, deep 10 in")


def test_of_an_answer_whose_worker_was_lost_no_seconds_are_made_up(conversation, alice, line):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    spend.admit(
        spend.Call(alice, UsageRecord.Purpose.REPLY, turn.model, Terms(input_bound=100), wanted_tokens=1_000, turn=turn)
    )
    long_ago = timezone.now() - timedelta(minutes=10)
    Turn.objects.update(lease_until=long_ago, checkpoint_text="Half of", checkpoint_thinking="Hm.", thinking_ms=12_400)

    Sweeper().sweep()

    words = line(turn)
    assert "≈ $" in words
    assert "interrupted Details" in words
    assert not re.search(r"\d s\b", words)
    [item] = thread.items([Turn.objects.get().reply])
    assert (item.turn.thought, item.turn.thinking) == ("Thought for 12 s", "Hm.")


def test_a_page_says_how_long_claude_thought_with_or_without_its_words(settled, browse):
    turn = settled(input=10, output=20)
    Turn.objects.update(thinking_ms=75_000)

    silent = browse(turn.user).get(turn.conversation.get_absolute_url()).content.decode()
    turn.reply.write([{"type": "thinking", "thinking": "<b>Hm.</b>"}, {"type": "text", "text": "Hi."}])
    turn.reply.keep()
    told = browse(turn.user).get(turn.conversation.get_absolute_url()).content.decode()

    assert f'<p class="silence" id="silence-{turn.id}">Thought for 1 min 15 s</p>' in silent
    assert '<details class="thinking">' not in silent
    assert f'<summary id="thought-{turn.id}">Thought for 1 min 15 s</summary>' in told
    assert "&lt;b&gt;Hm.&lt;/b&gt;" in told


@pytest.mark.parametrize(
    ("noted", "text", "says"),
    [
        ("", "", "Thinking"),
        ("Searching the web: rain", "", "Searching the web: rain"),
        ("Searching the web: rain", "I look.", "Searching the web: rain"),
        ("Summarising the older turns", "", "Summarising the older turns"),
        ("", "Half of", ""),
    ],
)
def test_a_page_that_is_loaded_again_says_what_the_reader_waits_for_and_since_when(
    conversation, browse, noted, text, says
):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    since = timezone.now() - timedelta(seconds=75)
    Turn.objects.update(checkpoint_notice=noted, checkpoint_notice_at=since, checkpoint_text=text, started_at=since)

    page = browse(turn.user).get(conversation.get_absolute_url()).content.decode()

    notice, clock = re.search(rf'id="notice-{turn.id}" role="status">(.*?)</p>(.*?)</div>', page).groups()
    assert notice == says
    assert re.search(r'id="clock-[^>]*>(.*)</span>$', clock)[1] == (
        f'<span data-since="{since.timestamp():.3f}">· 1 min 15 s</span>' if says else ""
    )


def test_while_claude_searches_the_page_is_told_for_what(conversation):
    turn = conversation.start_turn("Hello", uuid.uuid4())
    run = Run(turn)
    run.begin()
    use = {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}
    asked = {"type": "input_json_delta", "partial_json": '{"query": "<b>rain</b>"}'}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "I look."}},
        {"type": "content_block_start", "index": 1, "content_block": use},
        {"type": "content_block_delta", "index": 1, "delta": asked},
        {"type": "content_block_stop", "index": 1},
    ]
    result = {"type": "web_search_tool_result", "tool_use_id": "1", "content": []}

    for event in events:
        run.answer.feed(event)
    searching = run.next_entry().data.decode()
    run.answer.feed({"type": "content_block_start", "index": 2, "content_block": result})
    reading = run.next_entry().data.decode()
    run.answer.feed({"type": "content_block_start", "index": 3, "content_block": {"type": "text", "text": " It is."}})
    writing = run.next_entry().data.decode()

    assert "Searching the web: &lt;b&gt;rain&lt;/b&gt;" in searching
    assert "I look." in searching
    assert "Reading what the search found" in reading
    assert "I look." not in reading
    assert f'hx-target="#notice-{turn.id}" hx-swap="innerHTML swapEmpty:true"></hx-partial>' in writing
    assert "I look. It is." in writing
