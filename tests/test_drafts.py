"""What is typed and not sent is kept on the server: it survives reload, crash, sign-out and another device."""

import html
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from chat import doorbell, drafts, submission
from chat.forms import LONGEST_TEXT
from chat.models import Draft, Turn
from tests.attached import given

pytestmark = pytest.mark.django_db

ODD = {
    "arabic": "مرحبا بالعالم",
    "combining": "e\u0301\u0323 Z\u0351\u036b",
    "emoji": "👩\u200d👩\u200d👧 👍🏽",
    "override": "\u202ereversed\u202c and \u2066isolated\u2069",
    "markup": "</textarea><script>alert(1)</script>&amp;",
    "blank lines": "\n\n  first\n\tthen\n",
}


@pytest.fixture(autouse=True)
def nobody_hears(monkeypatch):
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


@pytest.fixture
def keep(browse, conversation):
    """`keep("Hel")`: a page says what stands in the composer. `to=None` is that of a new chat."""

    def keep(text: str, *, to=conversation, by=None, **fields):
        address = f"/conversations/{to.id}/draft/" if to else "/drafts/"
        return browse(by or conversation.owner).post(address, {"text": text, **fields})

    return keep


@pytest.fixture
def seen(browse, conversation):
    """`seen()`: what the page that is opened now will say that it has had in its box."""

    def seen() -> str:
        page = browse(conversation.owner).get(f"/conversations/{conversation.id}/").content.decode()
        return re.search(r'name="seen" value="([^"]*)"', page)[1]

    return seen


def box(client, address: str) -> str:
    """What stands in the composer of a page."""
    page = client.get(address).content.decode()
    return html.unescape(re.search(r'<textarea[^>]*id="composer-text"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)[1])


def test_what_was_typed_stands_in_the_box_on_every_device(keep, browse, alice, conversation):
    keep("Half a thou")

    assert box(browse(alice), f"/conversations/{conversation.id}/") == "Half a thou"
    assert box(browse(alice), "/conversations/") == ""


def test_a_new_chat_has_a_draft_of_its_own(keep, browse, alice, conversation):
    keep("For a new one", to=None)

    assert box(browse(alice), "/conversations/") == "For a new one"
    assert box(browse(alice), f"/conversations/{conversation.id}/") == ""


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_text_of_every_kind_comes_back_as_it_was(keep, browse, alice, conversation, text):
    keep(text)

    assert box(browse(alice), f"/conversations/{conversation.id}/") == text
    assert browse(alice).get(f"/conversations/{conversation.id}/draft/").json()["text"] == text


def test_what_no_database_can_store_is_left_out_and_the_rest_is_kept(keep, conversation):
    response = keep("a\x00b")

    assert response.status_code == 204
    assert Draft.objects.get().text == "ab"


def test_the_draft_of_somebody_else_is_not_to_be_found(keep, browse, bob, conversation):
    keep("Mine")

    assert keep("His", by=bob).status_code == 404
    assert browse(bob).get(f"/conversations/{conversation.id}/draft/").status_code == 404
    assert Draft.objects.get().text == "Mine"


def test_the_last_write_of_two_tabs_wins(keep, seen, browse, alice, conversation):
    one, other = uuid.uuid4(), uuid.uuid4()

    keep("From one", client_id=one, edition=7)
    keep("In other words", client_id=other, edition=1, seen=seen())

    assert Draft.objects.get().text == "In other words"
    assert box(browse(alice), f"/conversations/{conversation.id}/") == "In other words"


def test_what_two_devices_type_without_having_seen_each_other_is_kept_for_both(keep, send, browse, alice, conversation):
    phone, laptop = uuid.uuid4(), uuid.uuid4()
    keep("A long text that is written on the phone", client_id=phone, edition=1)
    keep("Short", client_id=laptop, edition=1)
    newest = box(browse(alice), f"/conversations/{conversation.id}/")

    send("Short question", laptop, composer="1")

    assert newest == "Short"
    assert box(browse(alice), f"/conversations/{conversation.id}/") == "A long text that is written on the phone"


def test_what_is_sent_elsewhere_leaves_the_text_of_another_device(keep, send, browse, alice, conversation):
    keep("A long text that is written on the phone", client_id=uuid.uuid4(), edition=1)

    send("Short question", composer="1")

    assert box(browse(alice), f"/conversations/{conversation.id}/") == "A long text that is written on the phone"


def test_the_first_message_of_a_new_chat_leaves_what_another_device_has_begun(keep, browse, alice):
    keep("Begun on the phone", to=None, client_id=uuid.uuid4(), edition=1)

    browse(alice).post("/conversations/", {"text": "Hello", "client_id": uuid.uuid4(), "composer": "1"})

    assert box(browse(alice), "/conversations/") == "Begun on the phone"


def test_sending_takes_what_its_page_has_shown_along_and_not_what_was_typed_since(keep, send, seen):
    phone = uuid.uuid4()
    keep("Half a thought", client_id=phone, edition=1)
    shown = seen()
    send("Something quite different", composer="1", seen=shown)
    none_left = not Draft.objects.exists()
    keep("Half a thought", client_id=phone, edition=2)
    keep("Half a thought and its end", client_id=phone, edition=3)

    send("Something else again", composer="1", seen=shown)

    assert none_left
    assert Draft.objects.get().text == "Half a thought and its end"


def test_a_text_that_goes_on_where_another_tab_was_does_not_come_back_after_it_was_sent(keep, send):
    keep("Hello", client_id=uuid.uuid4(), edition=1)
    page = uuid.uuid4()
    keep("Hello world", client_id=page, edition=1)

    send("Hello world!", page, composer="1")

    assert not Draft.objects.exists()


def test_a_draft_comes_with_its_files(browse, alice, conversation):
    client = browse(alice)
    file, url = given(client), f"/conversations/{conversation.id}/draft/"
    client.post(url, {"text": "Look at", "attachments": [file.id], "client_id": uuid.uuid4(), "edition": 1})

    there = client.get(url).json()

    assert (there["text"], there["attachments"]) == ("Look at", [str(file.id)])


def test_a_text_that_goes_on_without_the_files_of_another_device_leaves_them_there(keep, browse, alice):
    file, phone = given(browse(alice)), uuid.uuid4()
    keep("Look at", attachments=[file.id], client_id=phone, edition=1)

    keep("Look at this", client_id=uuid.uuid4(), edition=1)

    assert Draft.objects.get(client_id=phone).attachments == [str(file.id)]


def test_of_very_many_texts_in_one_place_the_oldest_make_room(keep):
    for number in range(12):
        keep(f"{number} of many", client_id=uuid.uuid4(), edition=1)

    texts = set(Draft.objects.values_list("text", flat=True))

    assert texts == {f"{number} of many" for number in range(2, 12)}


def test_a_page_that_has_sent_already_is_told_and_given_another_client_id(keep, send, browse, alice, conversation):
    page = uuid.uuid4()
    send("Hello", page, composer="1")

    late = keep("Something new", client_id=page, edition=5)
    anew = keep("Something new", client_id=late.headers["X-Client-Id"], edition=6)

    assert (late.status_code, anew.status_code) == (205, 204)
    assert box(browse(alice), f"/conversations/{conversation.id}/") == "Something new"


def test_another_text_from_a_page_that_has_sent_is_refused_with_words_and_stays(browse, alice):
    client, page = browse(alice), uuid.uuid4()
    client.post("/conversations/", {"text": "First", "client_id": page, "composer": "1"})

    response = client.post("/conversations/", {"text": "Second", "client_id": page, "composer": "1"})

    said = html.unescape(response.content.decode())
    new_page = re.search(r'name="client_id" value="([^"]+)"', said)[1]
    assert response.status_code == 409
    assert "It stays in the box: press Send once more." in said
    assert ">\nSecond</textarea>" in said
    assert client.post("/conversations/", {"text": "Second", "client_id": new_page}).status_code == 302


def test_what_a_page_said_before_does_not_overtake_what_it_said_last(keep):
    page = uuid.uuid4()

    keep("All of it", client_id=page, edition=2)
    late = keep("All", client_id=page, edition=1)

    assert late.status_code == 204
    assert Draft.objects.get().text == "All of it"


def test_sending_empties_it(keep, send, browse, alice, conversation):
    keep("Hello")

    send("Hello, all of it", composer="1")

    assert box(browse(alice), f"/conversations/{conversation.id}/") == ""


def test_the_first_message_of_a_new_chat_empties_it(keep, browse, alice):
    keep("Hello", to=None)

    browse(alice).post("/conversations/", {"text": "Hello", "client_id": uuid.uuid4(), "composer": "1"})

    assert not Draft.objects.exists()


def test_a_refused_message_leaves_it(keep, send, conversation):
    keep("x")

    response = send("x" * (LONGEST_TEXT + 1), composer="1")

    assert response.status_code == 422
    assert Draft.objects.get().text == "x"


def test_what_is_sent_from_elsewhere_leaves_it(keep, send):
    keep("A thought of my own")

    send("Please continue exactly where you stopped.")

    assert Draft.objects.get().text == "A thought of my own"


def test_a_text_that_is_kept_late_does_not_come_back_after_it_was_sent(keep, send):
    page = uuid.uuid4()
    send("Hello", page, composer="1")

    late = keep("Hel", client_id=page, edition=1)

    assert late.status_code == 205
    assert not Draft.objects.exists()


def test_sending_again_after_a_lost_answer_leaves_what_was_typed_since(keep, send):
    page = uuid.uuid4()
    send("Hello", page, composer="1")
    keep("And then", client_id=uuid.uuid4(), edition=1)

    send("Hello", page, composer="1")

    assert Turn.objects.count() == 1
    assert Draft.objects.get().text == "And then"


def test_a_text_that_is_too_long_is_refused_with_words_and_the_draft_stays(keep):
    keep("Short")

    response = keep("x" * (LONGEST_TEXT + 1))

    assert response.status_code == 422
    assert response.content.decode() == "This is too long to be kept, and to be sent as one message. Shorten it."
    assert Draft.objects.get().text == "Short"


def test_a_request_of_ten_megabytes_is_refused_and_the_draft_stays(keep):
    keep("Short")

    response = keep("x" * 10_000_000)

    assert response.status_code in (400, 413)
    assert Draft.objects.get().text == "Short"


@pytest.mark.parametrize(
    "fields", [{"client_id": "x"}, {"edition": "-1"}, {"edition": "x"}, {"attachments": "../../etc/passwd"}]
)
def test_a_broken_request_changes_nothing(keep, fields):
    keep("Short")

    assert keep("Other", **fields).status_code == 422
    assert Draft.objects.get().text == "Short"


def test_a_prompt_in_the_address_goes_before_the_draft(keep, browse, alice):
    keep("My own", to=None)

    assert box(browse(alice), "/conversations/?text=Explain+this") == "Explain this"
    assert Draft.objects.get().text == "My own"


def test_it_is_deleted_with_its_conversation(keep, browse, alice, conversation):
    keep("Hello")

    browse(alice).post(f"/conversations/{conversation.id}/deletion/")

    assert not Draft.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("new_chat", [False, True])
def test_however_keeping_and_sending_meet_nothing_that_was_sent_stands_in_the_box(
    alice, browse, conversation, new_chat
):
    where = None if new_chat else conversation
    address = "/conversations/" if new_chat else f"/conversations/{conversation.id}/messages/"

    def say(page: uuid.UUID, number: int) -> None:
        try:
            if number == 2:
                browse(alice).post(address, {"text": "Hello", "client_id": page, "composer": "1"})
            else:
                drafts.keep(alice, where, "Hello"[: number + 1], [], client_id=page, edition=number)
        except drafts.Sent:
            pass
        finally:
            connection.close()

    for _ in range(5):
        page = uuid.uuid4()
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(say, [page] * 5, range(5)))
        submission.stop(Turn.objects.all())

        assert not Draft.objects.exclude(text="").exists()
