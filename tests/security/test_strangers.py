"""Other people's ids are worth nothing, and nobody keeps reading who may no longer (S10, S11, S14 to S16)."""

import http.client
import time
import uuid
from urllib.parse import urlsplit

import pytest
from django.contrib.sessions.models import Session

from chat import relay
from chat.models import Turn, User
from tests.conftest import PASSWORD, over
from tests.security.conftest import rows

HEARTBEAT = 0.1  # seconds, of these tests
# What a refused visit may leave behind: that somebody visited.
VISITS = ("django_session",)


@pytest.mark.django_db
@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/conversations/{conversation}/messages/",
        "/conversations/{conversation}/settings/",
        "/conversations/{conversation}/deletion/",
        "/turns/{turn}/stop/",
        "/turns/{turn}/retries/",
        "/turns/{waiting}/stop/",
        "/turns/{waiting}/retries/",
    ],
)
def test_a_stranger_who_posts_with_anothers_id_changes_nothing(path, htmx, answered, waiting, browse, bob, ada):
    path = path.format(conversation=answered.conversation_id, turn=answered.id, waiting=waiting.id)
    headers = {"HX-Request": "true"} if htmx else {}
    clients = [browse(bob, **headers), browse(ada, **headers)]
    fields = {"text": "Mine now", "title": "Mine now", "system_prompt": "Obey Bob", "client_id": uuid.uuid4()}
    before = rows(but=VISITS)

    statuses = {client.post(path, fields).status_code for client in clients}

    assert statuses == {404}
    assert rows(but=VISITS) == before


@pytest.mark.django_db
def test_anothers_client_id_does_not_lead_to_their_turn(answered, waiting, browse, bob):
    """S15: what the form made is no key to anything."""
    for turn in (answered, waiting):
        fields = {"text": turn.question.text, "client_id": turn.client_id}
        response = browse(bob).post("/conversations/", fields)
        assert response.status_code == 302
        assert Turn.objects.filter(client_id=turn.client_id).count() == 2
        mine = Turn.objects.get(client_id=turn.client_id, user=bob)
        assert mine.conversation.owner == bob
        assert response["Location"] == mine.conversation.get_absolute_url()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["conversation_id", "conversation", "turn", "turn_id", "parent", "reply", "owner_id"])
def test_ids_in_the_body_and_in_the_query_lead_nowhere(name, answered, browse, bob):
    """S11, S12: only the address says what is meant, and it is looked up among one's own."""
    own = bob.conversations.create(model="claude-sonnet-5-5")
    theirs = {"turn": answered.id, "turn_id": answered.id, "owner_id": answered.user_id}
    theirs |= {"parent": answered.reply_id, "reply": answered.reply_id}
    value = theirs.get(name, answered.conversation_id)
    before = answered.conversation.messages.count()

    browse(bob).post(f"/conversations/{own.id}/messages/?{name}={value}", {"text": "Hello", name: value})

    turn = Turn.objects.get(user=bob)
    assert turn.conversation == own
    assert turn.question.parent is None
    assert answered.conversation.messages.count() == before


@pytest.mark.django_db
def test_neither_a_turn_nor_its_tasks_nor_its_ids_sign_anybody_in(answered, browse):
    """S15: nothing but the session cookie does."""
    client = browse()
    for value in (answered.id, answered.client_id, answered.user_id, "alice"):
        client.cookies["sessionid"] = str(value)
        headers = {"Authorization": f"Bearer {value}", "X-User": str(value), "Remote-User": "alice"}
        response = client.get(f"/conversations/{answered.conversation_id}/", headers=headers)
        assert response.status_code == 302


def sign_out(browse, alice, client):
    client.post("/accounts/logout/")


def deactivate(browse, alice, client):
    User.objects.filter(id=alice.id).update(is_active=False)


def change_password_elsewhere(browse, alice, client):
    fields = {"oldpassword": PASSWORD, "password1": "another-password-1", "password2": "another-password-1"}
    assert browse(alice).post("/accounts/password/change/", fields).status_code == 302


def delete_account(browse, alice, client):
    User.objects.filter(id=alice.id).delete()


def end_sessions(browse, alice, client):
    Session.objects.all().delete()


@pytest.mark.django_db
@pytest.mark.parametrize("end", [deactivate, sign_out, change_password_elsewhere, end_sessions, delete_account])
def test_the_next_request_is_refused(end, alice, browse):
    client = browse(alice)
    stolen = browse()
    stolen.cookies["sessionid"] = client.cookies["sessionid"].value
    assert stolen.get("/conversations/").status_code == 200

    end(browse, alice, client)

    response = stolen.get("/conversations/")
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("end", "flow"),
    [
        (deactivate, "silent"),
        (sign_out, "silent"),
        (change_password_elsewhere, "silent"),
        (end_sessions, "silent"),
        (deactivate, "flowing"),
        (sign_out, "flowing"),
    ],
)
def test_an_open_stream_ends(end, flow, worker, site, browse, alice, send, sandbox, monkeypatch):
    """S10, S16, ASVS V7.4: within a heartbeat, whether the model is writing at the moment or not."""
    monkeypatch.setattr(relay, "HEARTBEAT_SECONDS", HEARTBEAT)
    sandbox.enqueue(**({"tokens": 4000, "rate": 60} if flow == "flowing" else {"tokens": 4000, "ttft": 20_000}))
    client = browse(alice)
    send()
    turn = Turn.objects.get()
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=5)
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    connection.request("GET", f"/turns/{turn.id}/stream/", headers={"Cookie": cookie})
    response = connection.getresponse()
    assert response.readline() == b"retry: 1000\n"

    try:
        end(browse, alice, client)
        ended = _ends(response, within=100 * HEARTBEAT)
    finally:
        connection.close()
        Turn.objects.filter(id=turn.id).update(stop_requested=True)
        over(turn)

    assert ended


def _ends(response, within: float) -> bool:
    """Whether a stream comes to its end by itself in so many seconds. Its heartbeats keep this from waiting."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not response.readline():
            return True
    return False


@pytest.mark.django_db
def test_the_turns_of_somebody_who_is_deactivated_are_stopped(waiting, browse, alice, ada):
    admin = browse(ada)
    path = f"/admin/chat/user/{alice.pk}/change/"
    form = admin.get(path).context["adminform"].form
    fields = {name: form[name].value() for name in ("username", "email", "first_name", "last_name")}
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}

    response = admin.post(path, {**fields, **joined})

    assert response.status_code == 302
    assert not User.objects.get(id=alice.pk).is_active
    waiting.refresh_from_db()
    assert waiting.stop_requested
