"""What never leaves: keys, and what people write (S25, S34, S44; ASVS V13.3, V16.2.5, V16.4.1)."""

import io
import json
import logging

import pytest
import structlog
from django.conf import settings
from django.test import Client

from chat import sidebar
from chat.models import User
from tests.conftest import wait_until
from tests.pages import without_tokens
from tests.security.conftest import SECRETS
from tests.security.routes import every_route

CONTROL = "\r\n\x1b[2J\x1b]0;owned\x07\x9b31m\u2028\x00"


@pytest.fixture
def log():
    """What the processes would write to standard error, with the formatter that the settings gave them."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    handler.setFormatter(next(f for f in formatters if isinstance(f, structlog.stdlib.ProcessorFormatter)))
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


def keys() -> list[str]:
    return [settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_ADMIN_KEY, settings.SECRET_KEY, settings.METRICS_TOKEN]


@pytest.mark.django_db
def test_no_key_is_on_any_page_and_no_chat_is_on_anothers(people, address):
    """Ada may see that a chat exists and what it cost. Never a word of it."""
    assert all(keys())

    for path in (address(route) for route in every_route()):
        for name in ("anonymous", "alice", "ada"):
            response = people[name].get(path)
            page = response.getvalue().decode() + str(response.headers)
            assert [key for key in keys() if key in page] == [], path
            if name != "alice":
                assert [secret for secret in SECRETS.values() if secret in page] == [], (name, path)


@pytest.mark.django_db
def test_deleting_a_person_shows_no_title_of_theirs(browse, alice, ada):
    alice.conversations.create(title=SECRETS["title"], model="claude-sonnet-5-5")

    response = browse(ada).get(f"/admin/chat/user/{alice.pk}/delete/")

    assert response.status_code == 200
    assert SECRETS["title"] not in response.content.decode()


@pytest.mark.django_db
def test_a_failure_shows_nothing_of_itself(browse, alice, monkeypatch, log):
    """S44, ASVS V16.5.1."""

    def fail(*args):
        raise RuntimeError("a fault near the database")

    monkeypatch.setattr(sidebar, "sidebar", fail)
    client = browse(alice)
    client.raise_request_exception = False

    response = client.get("/conversations/?text=canary")

    assert response.status_code == 500
    assert b"fault near" not in response.content
    assert b"Traceback" not in response.content
    assert "RuntimeError" in log.getvalue()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "scenario",
    [
        {},
        {"bad_json_at": 3, "tokens": 20},
        {"cut_at": 3, "tokens": 20},
        {"stop": "refusal"},
        {"status": "400"},
        {"status": "401"},
        {"status": "413"},
        {"status": "502html", "times": 3, "retry_after": 0},
        {"surrogate": True, "nul": True, "tokens": 20},
    ],
    ids=lambda scenario: next(iter(scenario), "well"),
)
def test_neither_what_is_asked_nor_what_is_answered_is_in_the_log(
    scenario, ask, sandbox, worker, browse, conversation, alice, log
):
    browse(alice).post(
        f"/conversations/{conversation.id}/settings/",
        {"title": SECRETS["title"], "system_prompt": SECRETS["system_prompt"]},
    )
    sandbox.enqueue(**({"say": SECRETS["answer"]} | scenario))

    turn = ask(SECRETS["question"])
    browse(alice).get(f"/conversations/{conversation.id}/?text={SECRETS['question']}")

    wait_until(lambda: "provider_call" in log.getvalue(), "the call was not logged")
    assert str(turn.id) in log.getvalue()
    assert [text for text in [*SECRETS.values(), *keys()] if text in log.getvalue()] == []


@pytest.mark.django_db
def test_nothing_that_a_visitor_says_makes_a_line_of_its_own(browse, alice, log):
    """S34: one event, one line of JSON, nothing but printable ASCII."""
    User.objects.filter(id=alice.id).update(username=f"alice{CONTROL[:-1]}", is_staff=True)
    alice.refresh_from_db()
    client = browse(alice)
    client.raise_request_exception = False
    headers = {"User-Agent": CONTROL, "Referer": CONTROL, "X-Forwarded-For": CONTROL}
    strict = Client(enforce_csrf_checks=True)

    client.get(f"/nowhere/{CONTROL}", headers=headers)
    client.get("/", headers={"Host": f"evil{CONTROL}"})
    client.post(f"/spend/?{CONTROL}", {CONTROL: CONTROL}, headers=headers)
    client.get("/admin/spend/", headers=headers)
    strict.post("/accounts/login/", {"username": CONTROL}, headers={"Referer": f"https://evil/{CONTROL}"})
    client.post("/accounts/login/", {"username": f"x{CONTROL}", "password": CONTROL})
    structlog.get_logger("chat").warning("said", words=CONTROL, **{"key\r\n": 1})
    logging.getLogger("chat").warning("said %s", CONTROL)

    lines = log.getvalue().split("\n")[:-1]
    assert len(lines) >= 6
    for line in lines:
        json.loads(line)
        assert line.isascii()
        assert line.isprintable()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "attack",
    [
        "id'",
        "spent; DROP TABLE chat_user",
        "-spent) UNION SELECT 1 --",
        "user__password",
        "--spent",
        "\x00",
        "__class__",
    ],
)
def test_the_spend_page_sorts_and_filters_by_its_own_words_only(attack, browse, ada):
    """S25: what it does not know changes nothing."""
    client = browse(ada)
    plain = without_tokens(client.get("/admin/spend/"))

    for name in ("sort", "period", "team", "model", "user", "page", "q", "_connector"):
        assert without_tokens(client.get("/admin/spend/", {name: attack})) == plain, name


@pytest.mark.django_db
@pytest.mark.parametrize("attack", ["id'", "\x00", "-1", "é" * 10_000], ids=["quote", "NUL", "number", "long"])
@pytest.mark.parametrize("model", ["usagerecord", "user"])
def test_no_list_of_the_admin_fails_on_what_an_address_says(model, attack, browse, ada):
    client = browse(ada)
    client.raise_request_exception = False

    for name in ("q", "o", "p", "_facets", "password__startswith", "user__password__startswith", "id__in"):
        assert client.get(f"/admin/chat/{model}/", {name: attack}).status_code in {200, 302, 400, 403}, name
