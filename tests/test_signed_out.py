"""A page that is older than its session: a script is told in words, and what somebody wrote comes back."""

import html
import logging
import re
import uuid

import httpx2
import pytest
from django.test import Client

from chat import doorbell
from chat.models import Attachment, Conversation, Draft, Turn
from tests.pages import composer_error

pytestmark = pytest.mark.django_db

TEXT = "A long thought.\n\n<b>With marks</b> & more"
SIGNED_OUT = "You are signed out. Sign in in a new tab, then send again; your text stays here."
TOO_OLD = "This page was too old to send from. It is up to date now: send it again, your text stays here."
SOMEBODY_ELSE = (
    "Somebody else is signed in here now, so nothing was sent. Copy your text before you load the page again."
)
DELETED = "This chat was deleted. Copy your text, or send it in a new chat"
SCRIPTS = [{"HX-Request": "true"}, {"Sec-Fetch-Dest": "empty"}, {"Accept": "application/json"}]


@pytest.fixture
def nobody_hears(monkeypatch):
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


def said(response) -> str:
    """The words that a script is to put below the box."""
    found = re.search(r'hx-target="#composer-error"[^>]*>(.*?)</hx-partial>', response.content.decode(), re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]+>", "", found[1])).split()) if found else ""


def kept_text(response) -> str:
    """What stands in the box of the page. A browser drops the first line end of a textarea."""
    found = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", response.content.decode(), re.DOTALL)
    return html.unescape(found[1]).replace("\r\n", "\n") if found else ""


def kept_fields(response) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', response.content.decode()))


def action(response) -> str:
    return re.search(r'<form method="post" action="([^"]*)"', response.content.decode())[1]


@pytest.fixture
def strict(alice):
    """Alice, whose requests are checked as a browser's are; her cookie has another token than her page."""
    client = Client(enforce_csrf_checks=True, headers={"Origin": "http://testserver"})
    client.force_login(alice)
    client.cookies["csrftoken"] = "n" * 32
    return client


@pytest.fixture
def old_page(strict):
    return {"text": TEXT, "client_id": uuid.uuid4(), "csrfmiddlewaretoken": "o" * 32}


# A script -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", SCRIPTS, ids=["htmx", "fetch", "json"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_script_without_a_session_gets_words_and_no_page(headers, method, browse, conversation):
    for path in ("draft/", "foresight/", "messages/", "title/", "menu/", ""):
        response = getattr(Client(headers=headers), method)(f"{conversation.get_absolute_url()}{path}")

        assert response.status_code == 401
        assert said(response) == SIGNED_OUT
        assert "Location" not in response
        assert response["Cache-Control"] == "no-store"
        assert b'href="/accounts/login/" target="_blank"' in response.content
        assert b"password" not in response.content


def test_a_stream_without_a_session_says_so_to_its_page(conversation):
    turn = conversation.start_turn("Hello", uuid.uuid4())

    response = Client(headers={"HX-Request": "true"}).get(f"/turns/{turn.id}/stream/")

    assert response.status_code == 401
    assert said(response) == SIGNED_OUT


def test_somebody_at_a_browser_is_led_to_the_sign_in_page(conversation):
    response = Client(headers={"Sec-Fetch-Dest": "document"}).get(conversation.get_absolute_url())

    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=")


def test_a_script_with_an_old_token_is_told_so_and_given_a_new_one(old_page, strict):
    del strict.cookies["csrftoken"]

    first = strict.post("/conversations/", old_page, headers={"HX-Request": "true"})
    old_page["csrfmiddlewaretoken"] = strict.cookies["csrftoken"].value
    second = strict.post("/conversations/", old_page, headers={"HX-Request": "true"})

    assert first.status_code == 403
    assert said(first) == TOO_OLD
    assert "HX-Redirect" in second
    assert Turn.objects.count() == 1


def test_a_script_from_elsewhere_is_given_nothing(strict, old_page):
    del strict.cookies["csrftoken"]

    response = strict.post("/conversations/", old_page, headers={"HX-Request": "true", "Origin": "http://evil.example"})

    assert response.status_code == 403
    assert "csrftoken" not in response.cookies
    assert TEXT not in html.unescape(response.content.decode())


def test_a_page_of_one_person_does_nothing_for_another_who_has_signed_in_since(browse, bob, alice):
    client = browse(bob, **{"HX-Request": "true", "X-Person": str(alice.pk)})

    answers = [client.post("/drafts/", {"text": TEXT}), client.post("/conversations/", {"text": TEXT})]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert {said(answer) for answer in answers} == {SOMEBODY_ELSE}
    assert not Draft.objects.exists()
    assert not Conversation.objects.exists()


# Without JavaScript ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/conversations/", "text"),
        ("/conversations/{}/messages/", "text"),
        ("/conversations/{}/settings/", "system_prompt"),
        ("/preferences/", "instructions"),
        ("/spend/requests/", "reason"),
    ],
)
def test_what_is_sent_after_the_session_has_ended_comes_back_to_be_sent_again(path, name, browse, conversation, alice):
    path = path.format(conversation.id)
    client_id = str(uuid.uuid4())

    refused = Client().post(path, {name: TEXT, "client_id": client_id, "amount": "5", "csrfmiddlewaretoken": "x"})

    assert refused.status_code == 403
    assert "You are signed out" in refused.content.decode()
    assert kept_text(refused) == TEXT
    assert action(refused) == path
    fields = kept_fields(refused)
    assert fields.pop("csrfmiddlewaretoken") != "x"
    assert fields == {"client_id": client_id, "amount": "5"}
    assert refused["Cache-Control"] == "no-store"
    assert not Turn.objects.exists()
    assert not Draft.objects.exists()


def test_files_that_came_along_are_said_to_be_gone(conversation, tmp_path):
    (tmp_path / "a.txt").write_text("Hello")

    with (tmp_path / "a.txt").open("rb") as file:
        response = Client().post("/conversations/", {"text": TEXT, "files": [file]})

    assert "attach its files again" in response.content.decode()
    assert not Attachment.objects.exists()


def test_nothing_else_than_what_was_written_comes_back(browse):
    fields = {"username": "alice", "password": "secret-word", "oldpassword": "secret-word"}

    response = Client().post("/accounts/password/change/", fields)

    assert response.status_code == 302
    assert b"secret-word" not in response.content


def test_a_page_that_is_too_old_gives_the_text_back_with_a_token_that_counts(strict, old_page):
    refused = strict.post("/conversations/", old_page)
    fields = kept_fields(refused)
    sent = strict.post(action(refused), {"text": kept_text(refused), **fields})

    assert refused.status_code == 403
    assert "This page was too old to send from" in refused.content.decode()
    assert kept_text(refused) == TEXT
    assert sent.status_code == 302
    assert Turn.objects.get().question.text == TEXT


def test_a_form_of_another_site_comes_back_empty(strict, old_page):
    """Or one click on a page of ours would send what a stranger has written."""
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        client = Client(enforce_csrf_checks=True, headers=headers)
        client.cookies = strict.cookies

        response = client.post("/conversations/", old_page)

        assert response.status_code == 403
        assert kept_text(response) == ""


# A chat that is gone --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["messages/", "foresight/"])
def test_a_page_of_a_deleted_chat_is_told_so_and_shown_a_way_on(path, browse, conversation, alice):
    address = conversation.get_absolute_url()
    conversation.delete()

    response = browse(alice, **{"HX-Request": "true"}).post(f"{address}{path}", {"text": TEXT})

    body = response.content.decode()
    assert response.status_code == 404
    assert said(response) == DELETED
    assert 'hx-post="/conversations/"' in body
    assert 'name="stop"' not in body
    assert 'id="next"' in body


def test_a_chat_that_is_there_is_not_called_deleted(browse, conversation, alice):
    fields = {"text": TEXT, "after": uuid.uuid4(), "composer": "1"}

    path = f"{conversation.get_absolute_url()}messages/"
    response = browse(alice, **{"HX-Request": "true"}).post(path, fields)

    assert response.status_code == 404
    assert b"deleted" not in response.content


def test_a_message_to_a_deleted_chat_can_be_sent_in_a_new_one(browse, conversation, alice, nobody_hears):
    path = f"{conversation.get_absolute_url()}messages/"
    conversation.delete()
    client = browse(alice)

    refused = client.post(path, {"text": TEXT, "client_id": uuid.uuid4(), "after": uuid.uuid4(), "composer": "1"})
    sent = client.post(action(refused), {"text": kept_text(refused), **kept_fields(refused)})

    assert refused.status_code == 404
    assert "This chat was deleted" in refused.content.decode()
    assert sent.status_code == 302
    assert Turn.objects.get().question.text == TEXT


# Settings of a chat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"title": "Mine", "system_prompt": "x" * 20_001},
            "This is too long: 20001 characters of at most 20000. Shorten it.",
        ),
        (
            {"title": "y" * 201, "system_prompt": "Be brief"},
            "A title has at most 200 characters; this one has 201. Shorten it.",
        ),
    ],
    ids=["instructions", "title"],
)
def test_settings_that_are_too_long_stay_in_their_panel_with_words_beside_them(
    fields, words, browse, conversation, alice
):
    Conversation.objects.filter(id=conversation.id).update(title="Old", system_prompt="Old words")

    response = browse(alice).post(f"{conversation.get_absolute_url()}settings/", fields)

    body = response.content.decode()
    panel = re.search(r'<div class="panel" id="settings"([^>]*)>(.*?)</form>', body, re.DOTALL)
    assert response.status_code == 422
    assert "data-open" in panel[1]
    assert "popover" not in panel[1]
    assert f'role="alert">{words}</p>' in panel[2]
    assert panel[2].count('aria-invalid="true"') == 1
    assert fields["title"] in panel[2]
    assert fields["system_prompt"] in panel[2]
    assert composer_error(body) == ""
    assert "<title>Old ·" in body
    conversation.refresh_from_db()
    assert (conversation.title, conversation.system_prompt) == ("Old", "Old words")


def test_settings_open_by_their_button_otherwise(browse, conversation, alice):
    body = browse(alice).get(conversation.get_absolute_url()).content.decode()

    assert '<div class="panel" id="settings" popover>' in body


# Limits ---------------------------------------------------------------------------------------------


def upload(name: str) -> dict:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\nHello\r\n--b--\r\n' % name.encode()
    )
    return {"data": body, "content_type": "multipart/form-data; boundary=b"}


def many(count: int, kind: str) -> dict:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a.txt"\r\n\r\nHello\r\n'
    if kind == "field":
        part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\nHello\r\n'
    return {"data": part % b"files" * count + b"--b--\r\n", "content_type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("request_of", "status", "words"),
    [
        (lambda: many(101, "file"), 413, "These are more than 100 files. Attach at most 20 at a time."),
        (lambda: many(1_001, "field"), 413, "This form has more than 1,000 fields"),
        (
            lambda: upload("a" * 1_100 + ".txt"),
            400,
            "The name of a file is too long. Give it one of at most 200 letters.",
        ),
    ],
    ids=["files", "fields", "name"],
)
def test_what_is_refused_unread_is_refused_with_its_cause(request_of, status, words, browse, alice, caplog):
    with caplog.at_level(logging.INFO):
        page = browse(alice).post("/conversations/", **request_of())
        fragment = browse(alice, **{"HX-Request": "true"}).post("/conversations/", **request_of())
        chips = browse(alice, **{"HX-Request": "true"}).post("/attachments/", **request_of())

    assert [page.status_code, fragment.status_code, chips.status_code] == [status] * 3
    assert words in html.unescape(page.content.decode())
    assert "Go back: your text is still in the form." in page.content.decode()
    assert words in said(fragment)
    assert words in html.unescape(chips.content.decode())
    assert b"file--refused" in chips.content
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert status == 400 or not any(record.exc_info for record in caplog.records)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("signed_in", "kind", "words"),
    [
        (True, "multipart/form-data; boundary=b", "These files are too large together: 7 MB is the most."),
        (False, "multipart/form-data; boundary=b", "You are signed out, and so much is not taken then."),
        (True, "application/x-www-form-urlencoded", "This is too large to be sent. Shorten the text"),
    ],
    ids=["files", "signed out", "text"],
)
def test_what_is_too_large_to_be_read_is_refused_with_its_cause(signed_in, kind, words, site, browse, alice, settings):
    settings.LARGEST_UPLOAD = 7_000_000
    session = browse(alice).cookies["sessionid"].value if signed_in else ""
    headers = {"Cookie": f"sessionid={session}", "Content-Type": kind}

    for more, target in (({}, "Go back"), ({"HX-Request": "true"}, "composer-error")):
        response = httpx2.post(f"{site}/conversations/", content=b"x" * 8_000_000, headers={**headers, **more})

        assert response.status_code == 413
        assert words in response.text
        assert target in response.text
