"""Searching in all of one's own conversations, on both databases."""

import uuid
from urllib.parse import quote

import pytest
from django.db import connection, models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat import search_index, setup, words
from chat.models import Conversation, Message, SearchEntry
from tests.talk import say

pytestmark = pytest.mark.django_db


@pytest.fixture
def conversation(conversation):
    """With a title of its own: else the first words of what is asked would be one."""
    Conversation.objects.filter(id=conversation.id).update(title="Untitled")
    return conversation


@pytest.fixture
def found(browse, alice):
    """`found("tides")`: what Alice's page of hits shows, without its frame."""

    def found(query: str, by=None, **address) -> str:
        extra = "".join(f"&{name}={value}" for name, value in address.items())
        response = browse(by or alice).get(f"/conversations/search/?q={quote(query)}{extra}")
        assert response.status_code == 200
        _, begun, rest = response.content.decode().partition('<ol class="hits">')
        return rest.partition("</main>")[0] if begun else ""

    return found


def hits(page: str) -> int:
    return page.count('class="hit"')


def test_a_word_of_a_question_and_of_an_answer_is_found_with_its_title_and_marked(conversation, found):
    Conversation.objects.filter(id=conversation.id).update(title="The North Sea")
    say(conversation, "How do tides work?", "The **moon** pulls at the water.")

    asked, answered = found("tides"), found("moon")

    assert hits(asked) == hits(answered) == 1
    assert "The North Sea" in asked
    assert "How do <mark>tides</mark> work?" in asked
    assert "The <mark>moon</mark> pulls at the water." in answered
    assert "Claude" in answered


def test_a_hit_leads_to_its_message_on_its_branch(conversation, found):
    turn = say(conversation, "How do tides work?", "By the moon.")

    page = found("moon")

    address = f"/conversations/{conversation.id}/?message={turn.reply_id}#message-{turn.reply_id}"
    assert f'href="{address}"' in page


def test_a_title_is_found_also_after_it_was_changed(conversation, found):
    say(conversation, "Hello", "Hello.")
    Conversation.objects.filter(id=conversation.id).update(title="Tides of the North Sea")
    Conversation.objects.filter(id=conversation.id).update(title="Ebb and flow")

    assert hits(found("tides")) == 0
    assert "<mark>Ebb</mark>" in found("ebb")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("A category of its own", "categ"),
        ("First one, and then the other", "other first"),
        ("Ångström crème brûlée", "angstrom creme BRULEE"),
        ("angstrom creme", "Ångström crème"),
        ("Die Straße nach Łódź", "strasse lodz"),
        ("ΟΔΥΣΣΕΥΣ και Πηνελόπη", "οδυσσευς πηνελοπη"),
        ("Привет, мир", "приве МИР"),
        ("日本語のテキストを検索する", "検索"),
        ("日本語のテキストを検索する", "語"),
        ("日本語のテキストを検索する", "テキスト"),
        ("한국어로 검색하기", "한국어"),
        ("การค้นหาข้อความ", "ค้นหา"),
        ("हिन्दी में खोज", "हिन्दी"),
        ("مُحَمَّد ذهب إلى المدرسة", "محمد المدرسة"),
        ("שָׁלוֹם עולם", "שלום"),
        ("read the file foo_bar.py now", "foo_bar.py"),
        ("Version 2.10 of it", "2.10"),
        ("It's fun \U0001f389 today", "\U0001f389"),
        ("x" * 60 + "y", "x" * 60),
        ("One\n\nlong   phrase, really", '"long phrase really"'),
        ("still typing a phrase", '"typing a'),
        ("He said “good morning” to her", "“good morning”"),
    ],
)
def test_words_their_beginnings_and_phrases_are_found_in_every_script(conversation, found, text, query):
    say(conversation, text)

    page = found(query)

    assert hits(page) == 1, query
    assert "<mark>" in page


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("First one, and then the other", "first third"),
        ("The word category", "egory"),
        ("phrase that is not so long", '"long phrase"'),
        ("a longer phrase", '"long phrase"'),
        ("an apple", "p"),
        ("言本 日語", "日本"),
        ("日本と本語", "日本語"),
    ],
)
def test_what_does_not_have_all_of_it_is_not_found(conversation, found, text, query):
    say(conversation, text)

    assert hits(found(query)) == 0


def test_nobody_finds_what_strangers_said(conversation, alice, bob, found):
    other = bob.conversations.create(model=conversation.model, title="A secret of Bob")
    say(other, "secret question", "secret answer")

    assert hits(found("secret")) == 0
    assert hits(found("secret", by=bob)) == 3


def test_an_owner_in_the_index_cannot_be_typed(conversation, bob, found):
    """Nor is person 1 the beginning of person 12."""
    other = bob.conversations.create(model=conversation.model)
    say(other, "secret")

    for query in (f"{bob.pk}xsecret", f"{bob.pk}xsec", str(bob.pk), f'"{bob.pk}xsecret"'):
        assert hits(found(query)) == 0


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        '"',
        '""',
        "'",
        "-",
        "*",
        "OR",
        "hello OR",
        "hello AND NOT",
        "hello*",
        "-hello",
        'hello"',
        "hello'",
        "hello) OR (1=1",
        "words: hello",
        "NEAR(hello)",
        "^hello",
        "hello & | ! <-> :*",
        "\\",
        "%_",
        "\x00",
        "hel\x00lo",
        "\u202ehello\u202c",
        "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        "🏳️‍🌈",
        "a " * 5000,
        "x" * 10_000,
        "日" * 10_000,
        '"' * 10_000,
        "'; DROP TABLE chat_message; --",
    ],
)
def test_no_query_is_an_error(conversation, found, query):
    say(conversation, "hello there")

    page = found(query)

    assert hits(page) in (0, 1)
    assert Message.objects.exists()


@pytest.mark.parametrize("before", ["x", "-1", "0", "9" * 30, "1.5", ""])
def test_no_place_to_go_on_from_is_an_error(conversation, found, before):
    say(conversation, "hello there")

    found("hello", before=before)


def test_a_search_for_nothing_says_what_can_be_done(conversation, browse, alice):
    page = browse(alice).get("/conversations/search/?q=%21%3F").content.decode()

    assert "There is no word in this to look for." in page


def test_the_newest_come_first_and_the_rest_on_demand(alice, conversation, found, browse):
    for number in range(45):
        say(conversation, f"apple number{number}", "")

    seen, page = [], found("apple")
    while True:
        seen += [number for number in range(45) if f"number{number}<" in page.replace(" ", "<")]
        if "before=" not in page:
            break
        page = found("apple", before=page.partition("before=")[2].partition('"')[0])

    assert sorted(seen) == list(range(45))
    assert len(seen) == 45
    assert "number44" in found("apple")


def test_a_phrase_is_found_behind_many_messages_that_have_its_words_in_another_order(conversation, found):
    say(conversation, "the moon pulls at the sea")
    turn = conversation.turns.get()
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", text=f"pulls {number} moon", parent=turn.question)
        for number in range(130)
    )

    assert hits(found('"moon pulls"')) == 1


def test_a_message_is_found_as_soon_as_it_is_written_and_never_after_it_is_gone(conversation, alice, browse, found):
    turn = say(conversation, "question")
    assert hits(found("answer")) == 0

    turn.reply.write([{"type": "text", "text": "An answer"}])
    turn.reply.keep()
    assert hits(found("answer")) == 1
    Message.objects.filter(id=turn.reply_id).update(text="Something else")
    assert hits(found("answer")) == 0
    assert hits(found("something")) == 1
    browse(alice).post(f"/conversations/{conversation.id}/deletion/")

    assert hits(found("question")) == 0
    assert not SearchEntry.objects.exists()
    assert entries_in_index() == 0


def test_a_deleted_message_leaves_nothing_in_the_index(conversation, found):
    turn = say(conversation, "question", "answer")

    turn.reply.delete()

    assert hits(found("answer")) == 0
    assert entries_in_index() == 2  # the title and the question


def test_what_was_written_before_there_was_an_index_is_found(conversation, found):
    search_index.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM chat_searchentry")
    Conversation.objects.filter(id=conversation.id).update(title="Old title")
    conversation.messages.create(role="user", text="old question")
    connection.check_constraints()  # PostgreSQL alters no table that still has some to check

    search_index.install(connection)

    assert hits(found("old")) == 2
    connection.check_constraints()
    search_index.install(connection)
    assert hits(found("old")) == 2


def test_only_what_can_be_seen_is_searched(conversation, found):
    turn = say(conversation, "question")
    turn.reply.write([{"type": "thinking", "thinking": "hidden", "signature": "s"}, {"type": "text", "text": "shown"}])
    turn.reply.keep()

    assert hits(found("hidden")) == 0
    assert hits(found("shown")) == 1


def test_what_was_written_by_people_and_models_is_text_on_the_page(conversation, found):
    Conversation.objects.filter(id=conversation.id).update(title="<img src=x onerror=alert(1)> evil")
    say(conversation, "evil <script>alert(1)</script> </mark><b>", "evil & <i>")

    page = found("evil script alert")

    assert hits(page) == 1
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;<mark>script</mark>&gt;<mark>alert</mark>(1)" in page


def test_a_long_message_shows_the_passage_in_which_most_words_stand(conversation, found):
    say(conversation, "moon " + "filler words " * 300 + "here the moon and the tide meet " + "more of it " * 300)

    page = found("tide moon")

    assert "<mark>moon</mark> and the <mark>tide</mark> meet" in page
    assert len(page) < 3000


def test_archived_conversations_are_found_too_and_say_so(conversation, found):
    say(conversation, "tides")
    Conversation.objects.filter(id=conversation.id).update(archived=True)

    assert "archived" in found("tides")


@pytest.mark.parametrize("count", [3, 18])
def test_searching_takes_as_many_queries_however_much_is_found(
    alice, conversation, browse, django_assert_num_queries, count
):
    for number in range(count):
        say(conversation, f"tides {number}", "tides")
        alice.conversations.create(model=conversation.model, title=f"tides {number}")
    client = browse(alice)

    with django_assert_num_queries(6):  # session, person; twice the index and the rows that it names
        client.get("/conversations/search/?q=tides")


def test_without_money_one_can_still_search(conversation, limit, found):
    limit(conversation.owner, "0")
    say(conversation, "tides", "moon")

    assert hits(found("moon")) == 1


@pytest.mark.django_db(transaction=True)
def test_a_later_migration_may_rebuild_what_the_triggers_stand_on(conversation, found):
    """SQLite builds a table anew; PostgreSQL alters no column that a trigger names."""
    narrow, wide = Conversation._meta.get_field("title"), models.CharField(max_length=201, blank=True)
    wide.set_attributes_from_name("title")
    wide.model = Conversation

    for old, new in ((narrow, wide), (wide, narrow)):
        setup.before_migrate()
        with connection.schema_editor() as editor:
            editor.alter_field(Conversation, old, new)
        setup.after_migrate()
    Conversation.objects.filter(id=conversation.id).update(title="Tides")

    assert hits(found("tides")) == 1


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00", max_codepoint=0x1DFFF), max_size=80))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgresql_takes_text_apart_as_python_does(db, text):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite asks Python")

    with connection.cursor() as cursor:
        cursor.execute("SELECT tsvector_to_array(tally_words(%s, ''))", [text])
        [found] = cursor.fetchone()

    assert set(found) == words.words(text)


def test_a_word_is_found_in_a_message_of_half_a_megabyte_in_any_script(conversation, found):
    say(conversation, "first " + "日本語のテキスト" * 40_000, "ok")
    say(conversation, "second " + " ".join(str(uuid.uuid4()) for _ in range(10_000)))

    assert hits(found("first")) == 1
    assert hits(found("second")) == 1


def entries_in_index() -> int:
    table = "chat_searchentry" if connection.vendor == "postgresql" else "chat_searchindex"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]
