"""The list of conversations: its groups, its rows and what is done from them; and a conversation as a file."""

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat.models import Conversation, Turn
from tests.talk import book, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def listed(browse, alice):
    """`listed()`: the headings of Alice's sidebar with the titles below each."""

    def listed(path: str = "/conversations/", by=None) -> dict[str, list[str]]:
        page = browse(by or alice).get(path).content.decode()
        lines = re.findall(r'<h2>([^<]+)</h2>|<bdi id="sidebar-[^"]+">([^<]*)</bdi>', page.partition("<main")[0])
        groups: dict[str, list[str]] = {}
        for heading, title in lines:
            if heading:
                groups[heading] = []
            else:
                groups[next(reversed(groups))].append(title)
        return groups

    return listed


@pytest.fixture
def titled(alice):
    """`titled("Tides", days=3)`: a conversation that was last used so long ago."""

    def titled(title: str, days: float = 0, **fields) -> Conversation:
        made = alice.conversations.create(title=title, model="claude-sonnet-5-5", **fields)
        Conversation.objects.filter(id=made.id).update(updated_at=timezone.now() - timedelta(days=days))
        return made

    return titled


def test_conversations_stand_in_groups_as_people_remember_them(titled, listed, bob):
    for title, days in (("Old", 30), ("Lately", 4), ("Just now", 0)):
        titled(title, days)
    titled("Kept in sight", 90, pinned=True)
    titled("Put away", archived=True)
    bob.conversations.create(title="Bob's", model="claude-sonnet-5-5")

    groups = listed()

    assert list(groups) == ["Pinned", "Today", "Last 7 days", "Before"]
    assert [title for titles in groups.values() for title in titles] == ["Kept in sight", "Just now", "Lately", "Old"]


def test_of_many_conversations_the_rest_comes_in_parts_and_none_is_left_out(titled, alice, browse):
    for number in range(120):
        titled(f"Number {number}", days=number / 10)
    client, address, seen, parts = browse(alice), "/conversations/", [], 0

    while address:
        page = client.get(address, headers={"HX-Request": "true"} if parts else {}).content.decode()
        seen += re.findall(r">(Number \d+)</bdi>", page)
        parts += 1
        more = re.search(r'hx-get="(/conversations/older/[^"]+)"', page)
        address = more and more[1].replace("&amp;", "&")

    assert parts == 3
    assert seen == [f"Number {number}" for number in range(120)]


def test_a_heading_is_not_said_twice_where_the_list_goes_on(titled, alice, browse):
    for number in range(60):
        titled(f"Number {number}", days=100 + number)
    page = browse(alice).get("/conversations/").content.decode()
    more = re.search(r'hx-get="(/conversations/older/[^"]+)"', page)[1]

    rest = browse(alice, **{"HX-Request": "true"}).get(more).content.decode()

    assert rest.count("sidebar__row") == 10
    assert "<h2>" not in rest


@pytest.mark.parametrize(
    "before",
    ["x", "_", "2026-01-01_x", "9999-99-99_" + "0" * 32, "\x00", "0001-01-01T00:00:00Z_" + "0" * 32]
    + [f"{moment}_{'0' * 32}" for moment in ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "2026-01-01")],
)
def test_a_place_in_the_list_that_is_none_is_its_beginning(titled, alice, browse, before):
    titled("Tides")

    page = browse(alice).get("/conversations/older/", {"before": before})

    assert "Tides" in page.content.decode()


@pytest.mark.parametrize("count", [2, 40])
def test_the_sidebar_takes_as_many_queries_however_many_there_are(titled, alice, browse, count):
    for number in range(count):
        say(titled(f"Number {number}", pinned=number % 2 == 0), "Hello", "Hello.")

    with CaptureQueriesContext(
        connection,
    ) as queries:
        browse(alice).get("/conversations/")

    of_the_list = [q for q in queries if "chat_conversation" in q["sql"] and "active_leaf" in q["sql"]]
    assert len(of_the_list) == 2


def test_a_row_says_that_its_answer_is_being_written_or_is_new(conversation, titled, browse, alice):
    say(conversation, "Tell me")
    answered = say(titled("Answered"), "Tell me", "Told.")
    Turn.objects.filter(id=answered.id).update(finished_at=Now())
    client = browse(alice)

    page = client.get("/conversations/").content.decode()
    client.post(f"/conversations/{answered.conversation_id}/reading/")
    after = client.get("/conversations/").content.decode()

    assert 'data-state="answering"' in page
    assert "an answer is being written" in page
    assert 'data-state="unread"' in page
    assert 'data-state="unread"' not in after
    Turn.objects.filter(conversation=conversation).update(state="stopped")


def test_a_hundred_chats_are_pinned_and_all_are_listed_and_the_next_one_is_refused(titled, listed, browse, alice):
    for number in range(99):
        titled(f"Number {number}", pinned=True)
    hundredth, another = titled("The hundredth"), titled("Another")

    for chat in (hundredth, another):
        page = browse(alice).post(f"/conversations/{chat.id}/place/", {"pinned": "yes"}, follow=True)

    assert "100 chats are pinned already. Unpin one of them first." in page.content.decode()
    groups = listed()
    assert len(groups["Pinned"]) == 100
    assert groups["Today"] == ["Another"]


def test_pin_archive_and_rename_do_what_they_say_and_come_back(titled, listed, browse, alice):
    chosen, client = titled("Tides", 3), browse(alice)
    place, here = f"/conversations/{chosen.id}/place/", "/conversations/?text=x"

    assert client.post(place, {"pinned": "yes", "next": here}).headers["Location"] == here
    assert listed() == {"Pinned": ["Tides"]}
    client.post(place, {"pinned": "no"})
    assert listed() == {"Last 7 days": ["Tides"]}
    client.post(place, {"archived": "yes"})
    assert listed() == {}
    assert "Tides" in client.get("/conversations/archive/").content.decode()
    assert client.get(f"/conversations/{chosen.id}/").status_code == 200
    client.post(place, {"archived": "no"})
    client.post(f"/conversations/{chosen.id}/title/", {"title": "  Ebb \n and flow "})

    assert listed() == {"Last 7 days": ["Ebb and flow"]}


def test_no_form_leads_to_another_site(titled, browse, alice):
    chosen, client = titled("Tides"), browse(alice)

    for address in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        for path in ("place", "title"):
            answer = client.post(f"/conversations/{chosen.id}/{path}/", {"title": "x", "next": address})
            assert answer.headers["Location"] == chosen.get_absolute_url()
        assert client.post("/shortcuts/", {"next": address}).headers["Location"] == "/shortcuts/"


def test_a_deleted_conversation_leads_back_to_where_one_was(titled, browse, alice):
    kept, client = titled("Kept"), browse(alice)

    for here, there in ((kept.get_absolute_url(), kept.get_absolute_url()), (None, "/conversations/")):
        gone = titled("Gone")
        answer = client.post(
            f"/conversations/{gone.id}/deletion/", {"next": here or f"{gone.get_absolute_url()}?message=1"}
        )
        assert answer.headers["Location"] == there


def test_a_title_that_is_too_long_is_refused_with_words_and_the_old_one_stays(titled, browse, alice):
    chosen = titled("Tides")

    page = browse(alice).post(f"/conversations/{chosen.id}/title/", {"title": "x" * 300}, follow=True)

    assert "at most 200 characters" in page.content.decode()
    chosen.refresh_from_db()
    assert chosen.title == "Tides"


def test_titles_are_kept_from_turning_the_page_around(titled, browse, alice):
    titled("\u202eevil\u2067 title")

    page = browse(alice).get("/conversations/").content.decode()

    assert re.search(r"<bdi[^>]*>\u202eevil\u2067 title</bdi>", page)


def test_a_chat_as_markdown_has_what_is_shown_with_models_dates_and_costs(conversation, browse, alice):
    turn = say(conversation, "How do tides work?", "By the **moon**.")
    book(turn, 100, 50)
    Conversation.objects.filter(id=conversation.id).update(title="Tides / ebb: 'x'", system_prompt="Be brief.")

    answer = browse(alice).get(f"/conversations/{conversation.id}/export.md")

    text = answer.content.decode()
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Tides-ebb-x.md"'
    assert text.startswith("# Tides / ebb: 'x'\n")
    for words in (
        "Be brief.",
        "## You, ",
        "How do tides work?",
        "## Claude Sonnet 5.5, ",
        "By the **moon**.",
        "50 out",
    ):
        assert words in text
    assert "$0.00" in text


def test_a_chat_as_json_has_every_branch_and_every_call(conversation, browse, alice):
    first = say(conversation, "Question", "One.")
    book(first, 100, 50)
    conversation.retry_turn(first.question, "01a207e1-b600-7a04-9364-c587c5f3e122")
    Turn.objects.filter(state="queued").update(state="stopped")

    answer = browse(alice).get(f"/conversations/{conversation.id}/export.json")

    found = json.loads(answer.content)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert [message["role"] for message in found["messages"]] == ["user", "assistant", "assistant"]
    assert {message["parent"] for message in found["messages"][1:]} == {found["messages"][0]["id"]}
    assert found["messages"][1]["calls"][0]["output_tokens"] == 50
    assert found["shown"] == found["messages"][2]["id"]


@pytest.mark.parametrize("turns", [1, 12])
def test_an_export_takes_as_many_queries_however_long_the_chat_is(
    conversation, browse, alice, django_assert_max_num_queries, turns
):
    for number in range(turns):
        say(conversation, f"Question {number}", "Answer")
    client = browse(alice)

    for ending in ("md", "json"):
        with django_assert_max_num_queries(10):
            assert client.get(f"/conversations/{conversation.id}/export.{ending}").status_code == 200


def test_whoever_is_at_the_limit_can_still_export(conversation, browse, alice, limit):
    limit(alice, "0")
    say(conversation, "Question", "Answer")

    assert browse(alice).get(f"/conversations/{conversation.id}/export.md").status_code == 200


def test_single_keys_are_turned_off_and_stay_so(browse, alice):
    client = browse(alice)
    assert "data-single-keys" in client.get("/conversations/").content.decode()

    client.post("/shortcuts/", {"single_keys": "no"})

    assert "data-single-keys" not in client.get("/conversations/").content.decode()
    assert "Turn on" in client.get("/shortcuts/").content.decode()
