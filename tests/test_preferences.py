"""What a person asks of Claude in all of their conversations, and what is remembered of their choices."""

import re
import uuid

import pytest

from chat import doorbell, submission, turns
from chat.claude.request import request_for
from chat.models import Conversation, Turn, User
from tests.conftest import over

pytestmark = pytest.mark.django_db


@pytest.fixture
def nobody_hears(monkeypatch):
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


@pytest.fixture
def prefer(browse, alice):
    return lambda instructions: browse(alice).post("/preferences/", {"instructions": instructions}, follow=True)


def chosen(page: str) -> list[str]:
    return re.findall(r'<option value="([^"]+)"[^>]*\bselected', page)


def test_instructions_are_kept_and_shown_again(prefer, alice):
    page = prefer("Answer in French.\nBe short.").content.decode()

    alice.refresh_from_db()
    assert alice.instructions == "Answer in French.\nBe short."
    assert "Saved. It holds from your next message on." in page
    assert "Answer in French.\nBe short.</textarea>" in page


def test_instructions_that_are_too_long_are_refused_with_words_and_stay_on_the_page(prefer, alice):
    response = prefer("x" * 20_001)

    alice.refresh_from_db()
    assert response.status_code == 422
    assert "This is too long: 20001 characters of at most 20000. Shorten it." in response.content.decode()
    assert "x" * 20_001 in response.content.decode()
    assert alice.instructions == ""


@pytest.mark.parametrize(
    ("sent", "kept"), [("a\x00b", "ab"), ("\u202eevil", "\u202eevil"), ("</textarea><script>", "</textarea><script>")]
)
def test_any_text_is_kept_as_text(prefer, alice, sent, kept):
    page = prefer(sent).content.decode()

    alice.refresh_from_db()
    assert alice.instructions == kept
    assert "<script>" not in page.partition('<textarea id="instructions"')[2].partition("</main>")[0]


def test_everybody_has_their_own(prefer, bob):
    prefer("Answer in French.")

    bob.refresh_from_db()
    assert bob.instructions == ""


def test_nothing_but_the_instructions_can_be_changed_here(browse, alice):
    browse(alice).post("/preferences/", {"instructions": "Hi", "is_superuser": "1", "username": "root"})

    alice.refresh_from_db()
    assert (alice.username, alice.is_superuser, alice.instructions) == ("alice", False, "Hi")


def test_claude_reads_the_person_s_instructions_first_and_the_conversation_s_then(alice, conversation):
    User.objects.update(instructions="Answer in French.")
    Conversation.objects.update(system_prompt="Talk about cats.")
    conversation = Conversation.objects.get()

    turn = conversation.start_turn("Hello", uuid.uuid4())

    assert request_for(turn).system.endswith("\n\nAnswer in French.\n\nTalk about cats.")
    Turn.objects.update(state="stopped")


@pytest.mark.django_db(transaction=True)
def test_instructions_that_grow_before_the_question_is_sent_are_held_for(send, nobody_hears, sandbox):
    send("Hello")
    turn = Turn.objects.get()
    User.objects.update(instructions="Answer in the style of a very patient teacher. " * 300)

    turns.run(turn.id)

    before, record = turn.usage_records.order_by("admitted_at")
    assert (before.state, before.cost) == ("void", 0)
    assert record.prompt_tokens > 2000
    assert record.input_bound > before.input_bound + 10_000
    assert record.cost <= record.held


# What was chosen last ------------------------------------------------------------------------------


def test_a_new_chat_begins_with_the_model_and_effort_of_the_last_one(send, nobody_hears, browse, alice):
    send("Hello", model="claude-haiku-5-5", effort="deep")

    page = browse(alice).get("/conversations/").content.decode()

    assert chosen(page) == ["claude-haiku-5-5", "deep"]
    over_now()


def test_a_model_that_is_not_offered_any_more_is_not_chosen(send, nobody_hears, browse, alice, settings):
    send("Hello", model="claude-haiku-5-5")
    settings.MODELS = ["claude-sonnet-5-5", "claude-opus-5-5"]

    page = browse(alice).get("/conversations/").content.decode()

    assert chosen(page) == ["claude-sonnet-5-5", "balanced"]
    over_now()


# The web -------------------------------------------------------------------------------------------


def searches(page: str) -> tuple[bool, bool]:
    """Whether the switch is on, and whether it can be moved."""
    box = re.search(r'<input id="composer-search"[^>]*>', page)[0]
    return " checked" in box, " disabled" not in box


def test_the_switch_says_what_a_search_costs_and_is_off_at_first(browse, alice):
    page = browse(alice).get("/conversations/").content.decode()

    assert searches(page) == (False, True)
    assert "Up to 3 searches for each answer, $0.01 each" in page


def test_the_switch_is_remembered_in_the_conversation_and_off_again_in_a_new_one(
    send, nobody_hears, browse, alice, conversation
):
    send("Hello", composer="1", search="1")

    assert request_for(Turn.objects.select_related("conversation", "question", "user").get()).searches == 3
    assert searches(browse(alice).get(f"/conversations/{conversation.id}/").content.decode()) == (True, True)
    assert searches(browse(alice).get("/conversations/").content.decode()) == (False, True)
    over_now()


def test_what_a_search_may_cost_is_held_with_the_question(send, nobody_hears, conversation, alice):
    send("Hello", composer="1", search="1")

    record = Turn.objects.get().usage_records.get()
    assert record.terms["searches"] == 3
    assert record.held > 3 * 10_000_000
    over_now()


def test_the_switch_turned_off_is_off(send, nobody_hears, conversation):
    Conversation.objects.update(max_searches=3)

    send("Hello", composer="1")

    conversation.refresh_from_db()
    assert conversation.max_searches == 0
    over_now()


def test_what_does_not_come_from_the_composer_leaves_the_switch(send, nobody_hears, conversation):
    Conversation.objects.update(max_searches=3)

    send("Please continue exactly where you stopped.")

    conversation.refresh_from_db()
    assert conversation.max_searches == 3
    over_now()


def test_a_budget_that_holds_no_search_does_not_offer_one_and_says_so(browse, alice, limit):
    limit(alice, "0.05")

    page = browse(alice).get("/conversations/").content.decode()

    assert searches(page) == (False, False)
    assert "Your budget does not hold an answer of Claude Sonnet 5.5 that searches the web." in page


def test_a_model_that_cannot_search_says_so(browse, alice, settings):
    settings.MODELS = ["claude-unheard-of"]

    page = browse(alice).get("/conversations/").content.decode()

    assert searches(page) == (False, False)
    assert "claude-unheard-of cannot search the web." in page


def test_where_nobody_may_search_there_is_no_switch(browse, alice, settings):
    settings.SEARCHES_PER_ANSWER = 0

    assert "composer-search" not in browse(alice).get("/conversations/").content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_an_answer_may_search_as_often_as_the_page_has_said(send, sandbox):
    send("What is new?", composer="1", search="1")
    over(Turn.objects.get())

    asked = next(request["body"] for request in sandbox.requests if request["body"].get("stream"))
    assert asked["tools"] == [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]


def over_now() -> None:
    """Nobody answers here: the turns end, and what is held for them is let go."""
    submission.stop(Turn.objects.all())
