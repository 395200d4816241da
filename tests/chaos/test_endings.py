"""C22, and all endings: each has words, a step that helps, and an answer in the suite that really ends like that."""

import html
import re

import pytest
from django.conf import settings

from chat.endings import ENDINGS
from chat.models import Turn
from chat.summaries import FAILURES
from tests.chaos.conftest import begun, ended
from tests.chaos.test_provider import ANSWER, EXACT, TALE, calls

# What has Claude end an answer like that.
BY_CLAUDE = {
    "busy": {"status": "529", "retry_after": 0, "times": 3},
    "rate_limited": {"status": "429", "retry_after": 3600},
    "provider_auth": {"status": "401"},
    "provider_budget": {"status": "spend_limit"},
    "too_large": {"status": "413"},
    "bad_request": {"status": "400"},
    "provider_error": {"status": "500", "retry_after": 0, "times": 3},
    "cut": {"say": TALE, "rate": 200, "cut_at": 40},
    "max_tokens": {"tokens": 8_100, "rate": 100_000},
    "max_tokens_thinking": {"thinking": 8_100, "rate": 100_000},
    "refusal": {"stop": "refusal"},
    "pause_turn": {"tokens": 10, "stop": "pause_turn", "times": 9},
    "model_context_window_exceeded": {"stop": "model_context_window_exceeded"},
    "empty": {"stop": "end_empty"},
    "unknown_stop": {"stop": "something_new"},
}
# Where something else does.
ELSEWHERE = {
    "over_budget": "test_refusals.py: test_the_model_that_a_refusal_names_does_answer",
    "no_price": "test_refusals.py: test_a_model_without_a_price_is_not_asked_and_the_reader_is_told",
    "no_key": "test_failures.py: test_without_a_key_nothing_is_sent_and_the_reader_is_told",
    "internal": "test_endings.py: test_a_fault_of_ours_is_said_and_what_was_sent_is_booked",
    "unreachable": "chaos/test_provider.py: test_c19_where_nobody_listens_three_tries_are_made_and_the_reader_is_told",
    "unknown_model": "test_failures.py: test_a_model_that_claude_does_not_know_is_said_so",
    "over_budget_paused": "test_acceptance.py: test_case_12_a_loop_of_many_steps_with_money_for_two",
    "timeout": "chaos/test_silence.py: test_c17_no_answer_at_all_is_a_failure_and_only_the_reader_asks_again",
    "stalled": "chaos/test_silence.py: test_c18_an_answer_that_stops_in_the_middle_is_interrupted",
    "deadline": "test_failures.py: test_an_answer_that_takes_too_long_is_ended_and_can_be_continued",
    "worker_lost": "chaos/test_workers.py: test_c01_a_worker_killed_after_it_has_sent",
    "stopped": "chaos/test_endings.py: test_what_was_stopped_can_be_continued_or_asked_again",
    "max_tokens_fitted": "test_endings.py: test_an_answer_that_was_made_to_fit_says_so",
}
# To do the same again would end the same: what helps is done in the composer, and the words say what.
IN_THE_COMPOSER = {
    "no_price": "Choose another model.",
    "unknown_model": "Choose another one and send it again.",
    "max_tokens_thinking": "Choose less effort and send it again.",
    "refusal": "Ask in another way, or choose another model.",
}
NAMES = {
    "retry": "Try again",
    "continue": "Continue",
    "ask": "Ask for more",
    "summarise": "Summarise the older turns",
    "new": "New chat",
}


def beside(me, turn) -> tuple[str, list[str]]:
    """The words under an answer, and the names of what can be pressed beside them."""
    page = me.http.get(f"/conversations/{turn.conversation_id}/").text
    article = re.search(rf'<article [^>]*id="message-{turn.reply_id}".*?</article>', page, re.DOTALL)[0]
    ending = re.search(r'<div class="message__ending">(.*?)</div>', article, re.DOTALL)[1]
    words = re.search(r"<p>(.*?)</p>", ending, re.DOTALL)[1]
    return html.unescape(words), re.findall(r"<(?:button|a)\b[^>]*>([^<]*)</(?:button|a)>", ending)


# --- C22: Claude's own words for its end


@pytest.mark.parametrize(
    ("scenario", "kind", "says_something"),
    [
        ({"tokens": 8_100, "rate": 100_000}, "max_tokens", True),
        ({"stop": "refusal"}, "refusal", False),
        ({"tokens": 40, "stop": "refusal_mid"}, "refusal", False),
        ({"tokens": 40, "stop": "model_context_window_exceeded"}, "model_context_window_exceeded", True),
    ],
    ids=["max_tokens", "refusal", "refusal_mid", "context"],
)
def test_c22_each_stop_reason_has_its_own_words_and_an_exact_bill(
    me, conversation, sandbox, posts, scenario, kind, says_something
):
    sandbox.enqueue(**scenario)

    turn = me.ask("What is the answer?", to=conversation, effort="quick")
    tab = me.watch(turn).wait()

    turn, reply = ended(turn), me.page(turn)
    assert (reply.status, reply.ending) == ("done", ENDINGS[kind].words)
    assert ENDINGS[kind].words in html.unescape(tab.final)
    assert bool(reply.text) == says_something
    # A refusal before the first word is free.
    assert calls(turn) == [("settled", "exact", scenario != {"stop": "refusal"})]
    assert posts() == 1


def test_c22_a_pause_is_gone_on_from_without_a_word(me, conversation, sandbox, posts):
    sandbox.enqueue(tokens=10, stop="pause_turn")
    sandbox.enqueue(say=ANSWER)

    turn = ended(me.ask("What is the answer?", to=conversation))

    reply = me.page(turn)
    assert (reply.status, reply.ending) == ("done", "")
    assert reply.text.endswith(ANSWER)
    assert calls(turn) == [EXACT, EXACT]
    assert posts() == 2


# --- All of them


@pytest.mark.smoke
def test_every_ending_that_claude_can_cause_has_its_words_and_its_next_step(me, chats, sandbox):
    for kind, scenario in BY_CLAUDE.items():
        sandbox.enqueue(match=f"End as {kind}.", **scenario)

    turns = {
        kind: me.ask(f"End as {kind}.", to=chat, effort="quick")
        for kind, chat in zip(BY_CLAUDE, chats(len(BY_CLAUDE)), strict=True)
    }

    for kind, turn in turns.items():
        turn, ending = ended(turn), ENDINGS[kind]
        actions = ending.actions if turn.reply.text else ending.without_text().actions
        is_left_out = not turn.reply.text and (turn.stop_reason == "refusal" or turn.error == "too_large")
        words = ending.words + (" Claude does not read this question any more." if is_left_out else "")
        assert beside(me, turn) == (words, [NAMES[action] for action in actions])


@pytest.mark.smoke
def test_every_ending_is_reached_by_a_real_answer():
    assert BY_CLAUDE.keys() | ELSEWHERE.keys() == ENDINGS.keys()
    for place in ELSEWHERE.values():
        file, name = place.split(": ")
        assert f"def {name}(" in (settings.BASE_DIR / "tests" / file).read_text()


@pytest.mark.smoke
def test_every_ending_has_a_next_step():
    without_a_button = {kind for kind, ending in ENDINGS.items() if not ending.without_text().actions}

    assert without_a_button == IN_THE_COMPOSER.keys()
    for kind, step in IN_THE_COMPOSER.items():
        assert step in ENDINGS[kind].words
    assert all(action in NAMES for ending in ENDINGS.values() for action in ending.actions)


@pytest.mark.smoke
def test_whatever_can_go_wrong_has_an_ending():
    raised = re.compile(r'(?:ClaudeError\(|\berror=|\.stop\(|\berror, state = \()\s*"(\w+)"')
    sources = [path.read_text() for path in (settings.BASE_DIR / "chat").rglob("*.py")]

    kinds = {kind for source in sources for kind in raised.findall(source)}

    assert len(kinds) > 15
    # "replaced" is nobody's end: somebody else goes on.
    assert kinds - {"replaced"} <= ENDINGS.keys() | FAILURES.keys()


def test_what_was_stopped_can_be_continued_or_asked_again(me, chats, sandbox):
    sandbox.enqueue(say=TALE, rate=20, times=2)
    one, other = chats(2)
    turns = [begun(me.ask("Tell me a tale", to=chat)) for chat in (one, other)]
    for turn in turns:
        assert me.stop(turn).status_code == 204
    stopped = [ended(turn) for turn in turns]
    assert [beside(me, turn) for turn in stopped] == [("Stopped.", ["Continue", "Try again"])] * 2
    sandbox.enqueue(match="Please continue", say="And that was the tale.")

    rest = ended(me.ask("Please continue exactly where you stopped.", to=one))
    again = ended(me.retry(stopped[1]))

    assert me.page(rest).text == "And that was the tale."
    said = [message["content"][0]["text"] for message in sandbox.requests[2]["body"]["messages"]]
    assert said == ["Tell me a tale", stopped[0].reply.text, "Please continue exactly where you stopped."]
    assert again.question_id == stopped[1].question_id
    assert Turn.objects.count() == 4


def test_what_was_stopped_before_its_first_word_can_only_be_asked_again(me, conversation, sandbox, posts):
    sandbox.enqueue(ttft=60_000)
    turn = me.ask("Tell me a tale", to=conversation)

    me.stop(turn)

    assert beside(me, ended(turn)) == ("Stopped.", ["Try again"])
