"""Any text, from people and from models, is kept and shown as text (S5, S9, S18, S29; C38; ASVS V15.3.3)."""

import html
import re
from urllib.parse import quote_from_bytes

import pytest
from django.apps import apps
from hypothesis import example, given
from hypothesis import strategies as st

from chat import submission
from chat.forms import LONGEST_TEXT
from chat.models import Conversation, Message, Turn, UsageRecord, User
from chat.streams import data_lines
from chat.text import clean
from tests.books import bounded
from tests.security.conftest import rows

OURS = [
    '<div hx-get="/turns/1/stop/" hx-trigger="load">x</div>',
    '<hx-partial hx-target="#standing" hx-swap="innerHTML">You have $1,000,000</hx-partial>',
    '<div id="done-1" class="message__body prose">x</div>',
    '</textarea></div></article><article class="message" data-role="assistant" data-status="done">',
    "event: done\ndata: 1\n\n",
    "\r\rid: 999-1\revent: done\rdata: <b>1</b>\r\r",
    "<!--final--><script>alert(1)</script>",
    "{{ 7|add:7 }}{% csrf_token %}{# x #}",
    "[[sandbox]]",
]
ODD = {
    "NUL": ("a\x00b", "ab"),
    "right to left": ("\u202eevil\u2066x\u2069", "\u202eevil\u2066x\u2069"),
    "other line ends": ("a\u2028b\u2029c\x85d\x0be\x0cf", "a\u2028b\u2029c\x85d\x0be\x0cf"),
    "marks": ("e" + "\u0301" * 2000, "e" + "\u0301" * 2000),
    "byte order": ("\ufeffa", "\ufeffa"),
    "escape": ("\x1b[31mred\x1b]0;title\x07", "\x1b[31mred\x1b]0;title\x07"),
    "emoji": ("👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    "windows": ("a\r\nb", "a\nb"),
}


def events_in(stream: bytes) -> list[tuple[str, str, str]]:
    """(id, event, data) of each message, as the HTML standard has a browser read a stream."""
    found = []
    identifier = event = ""
    data: list[str] = []
    lines = re.split("\r\n|\n|\r", stream.decode().removeprefix("\ufeff"))
    for line in lines[:-1]:  # what has no line end yet is not a line
        if not line:
            if data:
                found.append((identifier, event or "message", "\n".join(data)))
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            identifier = value
    return found


SSE_LIKE = st.sampled_from(
    ["\r", "\n", "\r\n", "data:", "event: done", "id: 9-9", "retry: 1", ":", " ", "\x00", "\ufeff"]
)


@bounded
@given(st.lists(st.one_of(st.text(), SSE_LIKE)).map("".join))
@example("")
@example("\r")
@example("a\r\rid: 9-9\revent: done\rdata: 1\r\r")
@example("\n\nevent: done\ndata: 1\n\n")
def test_no_text_is_more_than_one_event(text):
    """S9: whatever it says, a browser gets one message with the same lines, and it carries our id."""
    stream = b"id: 1-1\n" + data_lines(text) + b"\n"

    assert events_in(stream) == [("1-1", "message", re.sub("\r\n|\r", "\n", text))]


@bounded
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_stored_and_sent_once_it_is_clean(text):
    stored = clean(text)

    assert "\x00" not in stored
    assert clean(stored) == stored
    assert events_in(data_lines(stored) + b"\n")


@pytest.mark.django_db
@pytest.mark.parametrize("text", OURS)
def test_what_a_person_writes_is_shown_as_it_was_written(text, send, browse, conversation, alice):
    send(text)

    body = browse(alice).get(f"/conversations/{conversation.id}/").content.decode()

    message = conversation.messages.get(role="user")
    assert message.text == text.replace("\r\n", "\n")
    shown = re.search(r'class="message__said"[^>]*>(.*?)</div>', body, re.DOTALL)[1]
    assert "<" not in shown
    assert html.unescape(shown) == message.text
    browse(alice).post(f"/turns/{Turn.objects.get().id}/stop/")


@pytest.mark.django_db
@pytest.mark.parametrize("text", OURS)
def test_a_title_is_shown_as_it_was_written(text, browse, conversation, alice):
    client = browse(alice)
    client.post(f"/conversations/{conversation.id}/settings/", {"title": text, "system_prompt": text})

    body = client.get(f"/conversations/{conversation.id}/").content.decode()
    alone = client.get(f"/conversations/{conversation.id}/title/").content.decode()

    conversation.refresh_from_db()
    assert conversation.title == " ".join(text.split())
    for page in (body, alone):
        assert html.escape(conversation.title) in page
        for markup in re.findall(r"<[a-z!][^>]*>", text):
            assert markup not in page.replace('class="message__body prose"', "")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ODD)
def test_odd_characters_are_kept(name, send, browse, conversation, alice):
    written, stored = ODD[name]

    response = send(written)

    assert response.status_code == 302
    assert conversation.messages.get(role="user").text == stored
    assert browse(alice).get(f"/conversations/{conversation.id}/").status_code == 200
    browse(alice).post(f"/turns/{Turn.objects.get().id}/stop/")


@pytest.mark.django_db
@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xff\xfe", b"\xc3", b"\xf8\x88\x80\x80\x80", b"%ud800"])
def test_bytes_that_are_no_text_do_no_harm(raw, browse, conversation, alice):
    body = b"text=a" + quote_from_bytes(raw).encode() + b"b"
    path = f"/conversations/{conversation.id}/messages/"

    response = browse(alice).post(path, body, content_type="application/x-www-form-urlencoded")

    assert response.status_code == 302
    text = conversation.messages.get(role="user").text
    assert text.startswith("a")
    assert text.endswith("b")
    text.encode()
    browse(alice).post(f"/turns/{Turn.objects.get().id}/stop/")


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "x" * (LONGEST_TEXT + 1)], ids=lambda text: repr(text[:3]))
@pytest.mark.parametrize("htmx", [False, True])
def test_nothing_and_too_much_are_refused_with_words(text, htmx, send, conversation):
    response = send(text, htmx=htmx)

    assert response.status_code == 422
    assert b"Write something first." in response.content or b"too long" in response.content
    assert not conversation.messages.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("letter", ["x", "語"])
def test_the_longest_text_is_taken_in_every_script(letter, browse, conversation, alice):
    """As a browser sends it: urlencoded."""
    body = "text=" + quote_from_bytes((letter * LONGEST_TEXT).encode())

    response = browse(alice).post(
        f"/conversations/{conversation.id}/messages/", body, content_type="application/x-www-form-urlencoded"
    )

    submission.stop(Turn.objects.all())
    assert response.status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", "not-a-uuid"),
        ("client_id", "\x00"),
        ("model", "gpt-4"),
        ("model", "\x00"),
        ("model", "claude-sonnet-5-5' OR 1=1 --"),
        ("effort", "max"),
        ("effort", "\x00"),
        ("model", "x" * 100_000),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(field, value, send, conversation):
    """S29."""
    response = send("Hello", **{field: value})

    assert response.status_code == 422
    assert not conversation.messages.exists()


ALL_FIELDS = sorted(
    {field.name for model in apps.get_app_config("chat").get_models() for field in model._meta.get_fields()}
    | {field.attname for model in apps.get_app_config("chat").get_models() for field in model._meta.concrete_fields}
)
UNKNOWN = [
    "max_tokens",
    "base_url",
    "temperature",
    "tools",
    "system",
    "messages",
    "bypass_filter",
    "price",
    "next",
    "_method",
]


def _everything(*meant: str) -> dict:
    """Every field of every model, and some keys that nobody has, with values that would matter."""
    values = {"user": 1, "is_staff": "on", "is_superuser": "on", "state": "done", "pinned": "on", "archived": "on"}
    names = (set(ALL_FIELDS) | set(UNKNOWN)) - set(meant)
    return {name: values.get(name, "999999") for name in names}


@pytest.mark.django_db
def test_a_form_sets_what_it_asks_for_and_nothing_else(browse, alice, bob, conversation):
    """S18: the same rows with every other key in the world as without."""
    form, settings = {"text", "client_id", "model", "effort", "attachments"}, {"title", "system_prompt"}
    assert len(ALL_FIELDS) > 100
    client = browse(alice)
    people = ("chat_user", "chat_user_groups", "chat_user_user_permissions")
    money = ("chat_budget", "chat_budgetrequest", "chat_budgetwarning", "chat_price")
    before = {name: found for name, found in rows().items() if name in people + money}

    client.post(f"/conversations/{conversation.id}/messages/", {**_everything(*form), "text": "Hello"})
    client.post(f"/conversations/{conversation.id}/settings/", {**_everything(*settings), "title": "Mine"})
    client.post("/conversations/", {**_everything(*form), "text": "Hello"})
    client.post("/accounts/email/", {**_everything("email"), "action_add": "", "email": "a@example.org"})

    assert {name: found for name, found in rows().items() if name in people + money} == before
    assert Conversation.objects.filter(owner=alice, pinned=False, archived=False, effort="balanced").count() == 2
    assert set(Conversation.objects.values_list("system_prompt", "model")) == {("", "claude-sonnet-5-5")}
    assert (
        list(Turn.objects.values_list("state", "attempt", "user", "model"))
        == [("queued", 0, alice.id, "claude-sonnet-5-5")] * 2
    )
    held = UsageRecord.objects.values_list("state", "cost", "model", "max_tokens", "searches", "user")
    assert list(held) == [("held", 0, "claude-sonnet-5-5", 16_000, 0, alice.id)] * 2
    assert not User.objects.filter(is_staff=True).exists()
    submission.stop(Turn.objects.all())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", OURS)
def test_what_a_model_writes_is_shown_as_text(text, ask, sandbox, worker, browse, alice):
    sandbox.enqueue(say=text)

    turn = ask("Hello")

    body = browse(alice).get(f"/conversations/{turn.conversation_id}/").content.decode()
    written = re.search(rf'<div id="done-{turn.id}">(.*?)</div>', body, re.DOTALL)[1]
    # Of ours in it is only what Markdown makes of a text.
    assert set(re.findall(r"<(\w[\w-]*)", written)) <= {"p", "br", "h3", "pre", "code", "figure", "figcaption"}
    assert not re.search(r"<[^>]*(hx-|id=|on\w+=)", written)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("oddity", [{"nul": True}, {"surrogate": True}])
def test_what_no_database_takes_is_taken_from_a_model(oddity, ask, sandbox, worker):
    sandbox.enqueue(tokens=20, **oddity)

    turn = ask("Hello")

    assert turn.state == Turn.State.DONE
    assert Message.objects.get(id=turn.reply_id).text == clean(turn.reply.text) != ""
