"""Mail about money: to whom, once, without a word of anybody's, whatever the server does."""

import re
import smtplib
import socket
from datetime import date, timedelta

import pytest
import structlog
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone

from chat import alarms, mail
from chat.models import Alarm, Budget, BudgetPeriod, BudgetRequest, BudgetWarning, User
from chat.money import nano
from chat.warnings import note_crossings
from tests.books import at_once

pytestmark = pytest.mark.django_db

LEFT = re.compile(r"\bleft\b|remain", re.IGNORECASE)
REASON = "canary-of-the-reason"


class Server(EmailBackend):
    """A mail server that can be away, or know nobody, or be in the middle of something."""

    failure: Exception | None = None
    opened = 0

    def open(self):
        type(self).opened += 1
        if isinstance(self.failure, ConnectionError):
            raise self.failure

    def send_messages(self, messages):
        if self.failure:
            raise self.failure
        return super().send_messages(messages)


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setattr(settings, "MAILERS", {"default": {"BACKEND": "tests.test_mail.Server"}})
    monkeypatch.setattr(Server, "failure", None)
    monkeypatch.setattr(Server, "opened", 0)
    monkeypatch.setattr(mail, "_not_before", 0.0)
    return Server


@pytest.fixture
def a_minute_later(monkeypatch):
    """The pause after a failure is over."""
    return lambda: monkeypatch.setattr(mail, "_not_before", 0.0)


@pytest.fixture
def outbox(mailoutbox):
    """`outbox()` is one round of the sweeper; then everything that was ever sent: (subject, body, to)."""

    def outbox() -> list[tuple[str, str, list[str]]]:
        mail.send_outstanding()
        return [(message.subject, message.body, message.to) for message in mailoutbox]

    return outbox


@pytest.fixture
def used(used):
    """`used("20.50", of="25")`: the same, and the sweeper has noted it."""

    def used_and_noted(dollars: str, **fields) -> BudgetPeriod:
        period = used(dollars, **fields)
        note_crossings()
        return period

    return used_and_noted


@pytest.fixture
def asked(alice):
    """`asked(state="granted", decided_by=ada)`: Alice's request."""

    def asked(**fields) -> BudgetRequest:
        facts = {"account": f"user:{alice.pk}", "amount": nano("10"), "until": date(2199, 7, 1), "reason": REASON}
        if fields.get("state") in ("granted", "declined"):
            facts |= {"decided_at": timezone.now(), "asked_mailed_at": timezone.now()}
        return alice.budget_requests.create(**{**facts, **fields})

    return asked


@pytest.fixture
def team(alice) -> Group:
    group = Group.objects.create(name="R&D")
    alice.groups.add(group)
    Budget.objects.create(group=group, kind="pot", limit=nano("100"))
    return group


def test_a_person_is_told_what_they_used_of_their_own_limit(used, alice, ada, outbox):
    Budget.objects.create(user=alice, limit=nano("25"))
    period = used("20.50", of="25")

    [(subject, body, to)] = outbox()

    assert to == ["alice@example.org"]
    assert subject == "You have used 82 % of your limit"
    assert (
        "You have used 82 % of your limit: $20.50 of $25.00 this month (a personal limit). It starts again on "
        f"1 {timezone.localtime(period.end):%B}." in body
    )
    assert f"{settings.SITE_URL}/spend/\n" in body
    assert "/spend/requests/" not in body


def test_when_all_is_used_the_mail_says_what_that_means_and_where_to_ask(used, alice, outbox):
    Budget.objects.create(user=alice, limit=nano("25"))
    used("25", of="25")

    [(subject, body, _)] = outbox()

    assert subject == "You have used 100 % of your limit"
    assert "Until then new questions are refused; everything can still be read." in body
    assert f"{settings.SITE_URL}/spend/requests/" in body


def test_a_limit_that_only_warns_names_its_source_and_says_that_nothing_stops(used, alice, outbox):
    Budget.objects.create(user=alice, limit=nano("25"), mode="warn")
    used("25", of="25", mode="warn")

    [(_, body, _)] = outbox()

    assert "$25.00 of $25.00 this month (a personal limit). It only warns: nothing stops." in body


def test_of_a_pot_the_administrators_are_told_and_no_member(used, team, ada, outbox):
    used("85", of="100", account=f"group:{team.pk}")

    [(subject, body, to)] = outbox()

    assert to == ["ada@example.org"]
    assert subject == "85 % of the pot of R&D is used"
    assert "85 % of the pot of R&D is used: $85.00 of $100.00 this month. It starts again" in body
    assert f"{settings.SITE_URL}/admin/spend/" in body


def test_the_pot_of_everyone_and_one_of_a_team_that_is_gone_have_words_too(used, team, ada, alice, outbox):
    Budget.objects.create(kind="pot", limit=nano("100"))
    used("85", of="100", account="everyone")
    used("85", of="100", account=f"group:{team.pk}")
    team.delete()

    subjects = {subject for subject, _, _ in outbox()}

    assert subjects == {"85 % of the pot of everyone is used", "85 % of the pot of a team that is gone is used"}


def test_a_warning_that_a_raise_made_untrue_is_not_sent(used, alice, outbox):
    used("20.50", of="25")
    Budget.objects.create(user=alice, limit=nano("100"))

    assert outbox() == []
    Budget.objects.update(limit=nano("25"))
    assert outbox() == []


def test_all_alarms_come_in_one_mail_to_the_administrators(ada, outbox):
    alarms.sound("provider_auth", "Claude did not accept the key. Check it.")
    alarms.sound("provider_auth", "Claude did not accept the key. Check it.")
    alarms.sound("no_price", "Add a price.", subject="claude-new")
    alarms.sound("ledger", "It did not agree.")
    alarms.settle("ledger")

    [(subject, body, to)] = outbox()

    assert to == ["ada@example.org"]
    assert subject == "Tally: 3 alarms"
    assert re.search(r"provider_auth, .*, 2 times\nClaude did not accept the key\. Check it\.\n", body)
    assert re.search(r"no_price claude-new, .*\nAdd a price\.\n", body)
    assert re.search(r"ledger, .* \(over by now\)\n", body)
    assert f"{settings.SITE_URL}/admin/chat/alarm/" in body
    assert len(outbox()) == 1


def test_an_alarm_that_sounds_again_after_it_was_closed_is_mailed_again(ada, outbox):
    alarms.sound("no_key", "Set the key.")
    outbox()
    alarms.settle("no_key")
    alarms.sound("no_key", "Set the key.")

    assert len(outbox()) == 2


def test_administrators_hear_of_a_request_without_its_reason(asked, ada, outbox):
    asked()

    [(subject, body, to)] = outbox()

    assert to == ["ada@example.org"]
    assert subject == "alice asks for $10.00 more"
    assert "alice asks for $10.00 on top of the personal limit, until 1 July 2199." in body
    assert f"{settings.SITE_URL}/admin/spend/" in body
    assert REASON not in subject + body


@pytest.mark.parametrize("state", ["granted", "declined"])
def test_who_asked_is_told_what_was_decided(asked, ada, outbox, state):
    asked(state=state, decided_by=ada)

    [(subject, body, to)] = outbox()

    assert to == ["alice@example.org"]
    assert subject == f"Your request was {state}"
    words = {"granted": "ada granted you $10.00 more until 1 July 2199.", "declined": "ada declined your request for"}
    assert words[state] in body
    assert len(outbox()) == 1


def test_a_request_that_was_taken_back_is_nobodys_mail(asked, ada, outbox):
    asked(state="withdrawn")

    assert outbox() == []


def test_administrators_are_those_who_can_decide_and_have_an_address(ada, alice, bob, outbox):
    def staff(name: str, **fields) -> User:
        return User.objects.create_user(name, f"{name}@example.org", is_staff=True, **fields)

    able, retired, clerk = staff("able"), staff("retired", is_active=False), staff("clerk")
    permission = Permission.objects.get(codename="change_budget", content_type__app_label="chat")
    for person in (able, retired, bob):
        person.user_permissions.add(permission)
    User.objects.create_superuser("root", "")
    User.objects.create_superuser("typo", "typo at example.org")
    alarms.sound("no_key", "Set the key.")

    [(_, _, to)] = outbox()

    assert to == ["able@example.org", "ada@example.org"]
    assert clerk.email not in to


def test_where_nobody_has_an_address_nothing_waits_for_one(used, alice, ada, asked, outbox):
    User.objects.update(email="")
    used("85", of="100")
    alarms.sound("no_key", "Set the key.")
    asked()

    assert outbox() == []
    User.objects.update(email="late@example.org")
    assert outbox() == []


def test_a_person_who_left_gets_no_mail(used, alice, outbox):
    used("85", of="100")
    User.objects.filter(pk=alice.pk).update(is_active=False)

    assert outbox() == []


def test_a_warning_of_a_deleted_person_disturbs_nobody(used, alice, outbox):
    used("85", of="100")
    BudgetPeriod.objects.update(account="user:0")

    assert outbox() == []
    BudgetPeriod.objects.update(account=f"user:{alice.pk}")


def test_a_mail_is_sent_once(used, asked, alice, ada, outbox):
    used("18", of="20")
    asked()
    alarms.sound("no_key", "Set the key.")
    first = outbox()

    again = outbox()

    assert len(first) == 3
    assert again == first


@pytest.mark.django_db(transaction=True)
def test_of_many_sweepers_at_once_one_sends(used, asked, alice, ada, outbox, mailoutbox):
    used("18", of="20")
    asked()
    for kind in ("no_key", "no_price"):
        alarms.sound(kind, "See to it.")

    at_once(6, lambda number: mail.send_outstanding())

    bodies = "".join(message.body for message in mailoutbox)
    assert bodies.count("See to it.") == 2
    assert bodies.count("asks for") == 1
    assert bodies.count("You have used 90 %") == 1


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError("nobody there"),
        smtplib.SMTPServerDisconnected("gone"),
        smtplib.SMTPDataError(452, b"for alice@example.org there is no room"),
        smtplib.SMTPRecipientsRefused({"alice@example.org": (450, b"later")}),
        TimeoutError("too slow"),
        ValueError("a sender that is none"),
    ],
)
def test_a_server_that_fails_is_left_alone_for_a_minute_and_then_sends_once(
    used, ada, outbox, server, monkeypatch, a_minute_later, failure
):
    used("18", of="20")
    monkeypatch.setattr(server, "failure", failure)
    with structlog.testing.capture_logs() as logs:
        assert outbox() == []
    tried = server.opened
    monkeypatch.setattr(server, "failure", None)
    too_early = outbox()

    a_minute_later()
    sent = outbox()

    assert too_early == []
    assert tried == 1
    assert len(sent) == 1
    assert outbox() == sent
    [line] = [line for line in logs if line["event"] == "mail_failed"]
    assert "example.org" not in str(line)
    assert line["again"] is True


def test_an_address_that_the_server_refuses_for_good_keeps_back_nobody(
    asked, used, ada, outbox, server, monkeypatch, a_minute_later
):
    used("18", of="20")
    monkeypatch.setattr(server, "failure", smtplib.SMTPRecipientsRefused({"alice@example.org": (550, b"unknown")}))
    with structlog.testing.capture_logs() as logs:
        outbox()
    monkeypatch.setattr(server, "failure", None)
    alarms.sound("no_key", "Set the key.")

    sent = outbox()

    assert [subject for subject, _, _ in sent] == ["Tally: 1 alarm"]
    assert [line["again"] for line in logs if line["event"] == "mail_failed"] == [False]


def test_a_round_sends_twenty_mails_and_the_next_one_the_others(outbox):
    for number in range(23):
        person = User.objects.create_user(f"person{number}", f"person{number}@example.org")
        period = BudgetPeriod.objects.create(
            account=f"user:{person.pk}",
            period="month",
            start=timezone.now() - timedelta(1),
            end=timezone.now() + timedelta(1),
            warn_limit=100,
        )
        BudgetWarning.objects.create(period=period, mode="warn", percent=80, limit=100, spent=80)
    BudgetPeriod.objects.update(spent=85)

    first = len(outbox())
    second = len(outbox())

    BudgetWarning.objects.all().delete()
    BudgetPeriod.objects.all().delete()
    assert (first, second) == (20, 23)


def test_a_slow_server_does_not_hold_up_the_sweeper(asked, used, ada, outbox, monkeypatch):
    used("18", of="20")
    asked()
    monkeypatch.setattr(mail, "SECONDS_A_ROUND", -1)

    assert len(outbox()) == 1
    assert len(outbox()) == 2


def test_nothing_to_send_is_four_statements_and_no_connection(ada, server, django_assert_num_queries):
    with django_assert_num_queries(4):
        mail.send_outstanding()

    assert server.opened == 0


def test_a_warning_of_a_period_that_is_long_over_is_not_sent_any_more(used, outbox):
    period = used("85", of="100")
    now = timezone.now()
    BudgetPeriod.objects.filter(pk=period.pk).update(start=now - timedelta(40), end=now - timedelta(2))

    assert outbox() == []


def test_no_mail_has_a_title_a_question_or_an_answer(used, asked, conversation, alice, ada, outbox):
    conversation.title = "canary-of-the-title"
    conversation.system_prompt = "canary-of-the-prompt"
    conversation.save()
    used("25", of="20")
    asked()
    alarms.sound("no_key", "Set the key.")

    mails = outbox()

    assert len(mails) == 3
    assert "canary" not in str(mails)


def test_every_threshold_mail_says_used_and_nothing_that_can_be_read_as_left(used, team, alice, ada, outbox):
    Budget.objects.create(user=alice, limit=nano("25"))
    for dollars in ("20", "25"):
        used(dollars, of="25")
        used(str(4 * int(dollars)), of="100", account=f"group:{team.pk}")
        outbox()

    mails = outbox()

    assert len(mails) == 4
    for subject, body, _ in mails:
        assert "used" in subject
        assert "used" in body
        assert not LEFT.search(subject + body)


def test_mail_comes_from_the_sender_of_the_settings_and_asks_for_no_automatic_answer(ada, outbox, mailoutbox):
    alarms.sound("no_key", "Set the key.")
    outbox()

    [message] = mailoutbox

    assert message.from_email == settings.DEFAULT_FROM_EMAIL
    assert message.message()["Auto-Submitted"] == "auto-generated"


def test_a_server_that_accepts_and_then_says_nothing_is_given_up(ada, monkeypatch, outbox):
    """The real backend, on a real socket, with the time limit of the settings made short."""
    alarms.sound("no_key", "Set the key.")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"host": "127.0.0.1", "port": silent.getsockname()[1], "timeout": 0.2}
        backend = "django.core.mail.backends.smtp.EmailBackend"
        monkeypatch.setattr(settings, "MAILERS", {"default": {"BACKEND": backend, "OPTIONS": options}})

        assert outbox() == []

    assert Alarm.objects.get().mailed_at is None


# In Django's admin


def test_an_administrator_closes_alarms_and_can_change_nothing_else(ada, browse):
    alarms.sound("no_key", "Set the key.")
    alarms.sound("no_price", "Add a price.")
    alarms.settle("no_price")
    open_one = Alarm.objects.get(closed_at=None)
    client = browse(ada)

    page = client.get("/admin/chat/alarm/").content.decode()
    client.post(
        "/admin/chat/alarm/", {"action": "close", "_selected_action": [alarm.pk for alarm in Alarm.objects.all()]}
    )

    assert page.index("Set the key.") < page.index("Add a price.")
    open_one.refresh_from_db()
    assert open_one.closed_at
    assert client.get(f"/admin/chat/alarm/{open_one.pk}/delete/").status_code == 403


def test_who_may_only_look_cannot_close_an_alarm(browse):
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_alarm"))
    alarms.sound("no_key", "Set the key.")

    browse(clerk).post("/admin/chat/alarm/", {"action": "close", "_selected_action": [Alarm.objects.get().pk]})

    assert Alarm.objects.get().closed_at is None


def test_an_administrator_can_look_at_warnings(used, ada, browse):
    used("20", of="25")

    page = browse(ada).get("/admin/chat/budgetwarning/").content.decode()

    assert "$20.00" in page
