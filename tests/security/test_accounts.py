"""Signing in, and everything around it (S35 to S38; ASVS V3.5, V6.1 to V6.4, V7.5)."""

import re

import pytest
from django.contrib.auth import hashers
from django.core import mail
from django.test import Client

from chat.models import User
from tests.conftest import PASSWORD
from tests.pages import without_tokens
from tests.security.conftest import rows
from tests.security.routes import every_route

pytestmark = pytest.mark.django_db
WRONG = "not-the-password"
TRIES = 5  # for one account in five minutes
SIGN_INS = ["/accounts/login/", "/admin/login/"]


def sign_in(client, username="alice", password=PASSWORD, path="/accounts/login/", **extra):
    return client.post(path, {"username": username, "password": password}, follow=True, **extra)


def is_in(client) -> bool:
    return client.get("/conversations/").status_code == 200


@pytest.mark.parametrize("path", SIGN_INS)
def test_the_right_password_helps_nobody_after_too_many_wrong_ones(path, browse, alice):
    client = browse()
    for _ in range(TRIES):
        client.post("/accounts/login/", {"username": "alice", "password": WRONG})

    sign_in(client, path=path)

    assert not is_in(client)


def test_the_admin_has_no_sign_in_of_its_own_beside_the_throttle(browse, ada):
    """The form of the admin would take any number of tries."""
    client = browse()

    response = client.post("/admin/login/", {"username": "ada", "password": PASSWORD})

    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/")
    assert not is_in(client)


def test_one_address_may_not_try_many_accounts(browse, alice):
    client = browse()
    for number in range(10):
        sign_in(client, f"person{number}", WRONG)

    sign_in(client)

    assert not is_in(client)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP"])
def test_a_made_up_address_does_not_reset_the_throttle(header, browse, alice):
    client = browse()
    for number in range(10):
        sign_in(client, f"person{number}", WRONG, headers={header: f"192.0.2.{number}"})

    sign_in(client, headers={header: "192.0.2.99"})

    assert not is_in(client)


def test_nobody_is_locked_out_by_the_tries_of_somebody_elsewhere(browse, alice):
    """S37."""
    for _ in range(TRIES):
        sign_in(browse(), password=WRONG, REMOTE_ADDR="192.0.2.1")

    client = browse()
    sign_in(client, REMOTE_ADDR="198.51.100.7")

    assert is_in(client)


def _answer(browse, username, password):
    """What a browser gets to see, but for the token and for what was typed."""
    response = sign_in(browse(), username, password)
    return response.status_code, response.redirect_chain, without_tokens(response).replace(username, "")


def test_a_failed_sign_in_says_nothing_about_the_account(browse, alice, bob):
    """S36: known, unknown and disabled get the same page after the same work."""
    User.objects.filter(id=bob.id).update(is_active=False)

    answers = [_answer(browse, username, WRONG) for username in ("alice", "nobody", "bob")]

    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 200


def test_a_failed_sign_in_takes_the_same_work_for_every_account(browse, alice, bob, monkeypatch):
    User.objects.filter(id=bob.id).update(is_active=False)
    worked = []
    encode = hashers.MD5PasswordHasher.encode
    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", lambda *args: worked.append(1) or encode(*args))

    work = []
    for username in ("alice", "nobody", "bob"):
        worked.clear()
        sign_in(browse(), username, WRONG)
        work.append(len(worked))

    assert work == [1, 1, 1]


def test_a_disabled_account_does_not_open(browse, alice):
    User.objects.filter(id=alice.id).update(is_active=False)
    client = browse()

    sign_in(client)

    assert not is_in(client)


def test_signing_in_gives_a_new_session(browse, alice):
    """ASVS V7.2.4: an id that somebody planted before is worth nothing afterwards."""
    client = browse()
    client.cookies["sessionid"] = "planted-by-somebody-else-00000000"

    sign_in(client)

    assert is_in(client)
    assert client.cookies["sessionid"].value != "planted-by-somebody-else-00000000"


def test_nobody_signs_up(browse):
    fields = {"username": "mallory", "email": "m@example.org", "password1": PASSWORD, "password2": PASSWORD}

    response = browse().post("/accounts/signup/", fields)

    assert response.status_code == 200
    assert not User.objects.exists()


def test_a_forgotten_password_is_set_anew_by_mail(browse, alice):
    client = browse()
    client.post("/accounts/password/reset/", {"email": "alice@example.org"})
    link = re.search(r"http://testserver(/\S+)", mail.outbox[0].body)[1]
    form = client.get(link, follow=True)
    fields = {"password1": "a-new-password-for-tests", "password2": "a-new-password-for-tests"}

    client.post(form.request["PATH_INFO"], fields)

    assert mail.outbox[0].to == ["alice@example.org"]
    assert User.objects.get().check_password("a-new-password-for-tests")
    # The link works once.
    again = browse()
    again.post(
        again.get(link, follow=True).request["PATH_INFO"], {**fields, "password1": PASSWORD, "password2": PASSWORD}
    )
    assert User.objects.get().check_password("a-new-password-for-tests")


def test_asking_for_a_new_password_says_nothing_about_the_account(browse, alice):
    answers = [
        browse().post("/accounts/password/reset/", {"email": email}, follow=True)
        for email in ("alice@example.org", "nobody@example.org")
    ]

    assert answers[0].redirect_chain == answers[1].redirect_chain
    assert answers[0].content == answers[1].content


def test_a_mail_with_a_link_goes_to_no_address_with_a_line_in_it(browse, alice):
    browse().post("/accounts/password/reset/", {"email": "alice@example.org\r\nBcc: mallory@example.org"})

    assert mail.outbox == []


@pytest.mark.parametrize("password", ["short", "password1234", "alice@example.org", "1234567890"])
def test_a_weak_password_is_refused(password, browse, alice):
    """ASVS V6.2."""
    fields = {"oldpassword": PASSWORD, "password1": password, "password2": password}

    browse(alice).post("/accounts/password/change/", fields)

    assert User.objects.get().check_password(PASSWORD)


def test_a_session_alone_cannot_take_the_account_over_by_another_address(browse, alice):
    """ASVS V7.5.1: with an address of one's own the reset of the password would follow."""
    mallory = browse(alice)

    mallory.post("/accounts/email/", {"action_add": "", "email": "mallory@example.org"})
    browse().post("/accounts/password/reset/", {"email": "mallory@example.org"})

    assert not any("/password/reset/key/" in message.body for message in mail.outbox)


def test_every_post_without_a_token_is_refused(address, alice, ada):
    """S38, ASVS V3.5.1, for whoever is signed in and for who is not."""
    anonymous, owner, admin = (Client(enforce_csrf_checks=True) for _ in range(3))
    owner.force_login(alice)
    admin.force_login(ada)
    paths = [address(route) for route in every_route()]
    before = rows()

    for path in paths:
        for client in (anonymous, owner, admin):
            response = client.post(path, {"text": "Hello", "csrfmiddlewaretoken": "0" * 64})
            assert response.status_code in {403, 405}, path

    assert rows() == before
