"""What Alice has, so that there is something to steal, and a way to see whether anything moved."""

import re
import uuid

import pytest
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.client import ClientHandler

from chat import alarms, spend
from chat.models import Attachment, Budget, BudgetPeriod, BudgetWarning, Conversation, Turn, UsageRecord, User
from chat.pricing import Terms, Usage
from tests.conftest import PASSWORD
from tests.security.routes import PEOPLE, model_of

# Every text that only Alice may ever read.
SECRETS = {
    "title": "canary-of-the-title",
    "system_prompt": "canary-of-the-instructions",
    "question": "canary-of-the-question",
    "answer": "canary-of-the-answer",
    "thinking": "canary-of-the-thinking",
    "file": "canary-of-the-file",
    "summary": "canary-of-the-summary",
}
STANDS_FOR = {"key": "x", "uidb36": "1", "app_label": "chat", "url": "nowhere"}


@pytest.fixture(scope="session")
def handler() -> ClientHandler:
    """One for all clients: each would load all middleware afresh, which is most of the time of a request."""
    return ClientHandler(enforce_csrf_checks=False)


@pytest.fixture
def browse(handler):
    """As everywhere; `browse()` is somebody who is not signed in."""

    def browse(person: User | None = None, **headers) -> Client:
        client = Client(headers=headers)
        client.handler = handler
        if person:
            client.force_login(person)
        return client

    return browse


@pytest.fixture
def answered(conversation, alice) -> Turn:
    """A finished turn with its books, made without a worker. Its texts are those of `SECRETS`."""
    private = {"title": SECRETS["title"], "system_prompt": SECRETS["system_prompt"]}
    Conversation.objects.filter(id=conversation.id).update(**private)
    turn = Turn.objects.claim(conversation.start_turn(SECRETS["question"], uuid.uuid4()).id)
    record = spend.admit(
        spend.Call(
            user=alice,
            purpose=UsageRecord.Purpose.REPLY,
            model=turn.model,
            terms=Terms(input_bound=100),
            wanted_tokens=1000,
            turn=turn,
        )
    )
    spend.settle(record, Usage(input=10, output=20), exact=True, stop_reason="end_turn", request_id="req_1")
    thinking = {"type": "thinking", "thinking": SECRETS["thinking"]}
    turn.reply.write([thinking, {"type": "text", "text": SECRETS["answer"]}])
    turn.reply.keep()
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason="end_turn", lease_until=None)
    return Turn.objects.get(id=turn.id)


@pytest.fixture
def waiting(alice) -> Turn:
    """A turn in the queue, in a conversation of its own, that no worker hears of."""
    other = alice.conversations.create(title=SECRETS["title"], model="claude-sonnet-5-5")
    return other.start_turn(SECRETS["question"], uuid.uuid4())


@pytest.fixture
def clerk(db) -> User:
    """May pass the admin's door, and open nothing behind it."""
    return User.objects.create_user("clerk", password=PASSWORD, is_staff=True)


@pytest.fixture
def people(browse, alice, bob, ada, clerk):
    clients = [browse(), browse(alice), browse(bob), browse(ada)]
    return {**dict(zip(PEOPLE, clients, strict=True)), "clerk": browse(clerk)}


@pytest.fixture
def address(answered, alice, limit):
    """The path of a route, with the ids of things that are there. They are Alice's where they are anybody's."""
    limit(alice, "5")
    asked = alice.budget_requests.create(amount=1_000_000_000, reason="Because", until="2030-01-01")
    period = BudgetPeriod.objects.get(account=f"user:{alice.pk}")
    attachment = stored_picture(alice)
    warning = BudgetWarning.objects.create(period=period, mode="block", percent=80, limit=1, spent=1)
    alarms.sound("no_key", "Set the key.")
    Group.objects.create(name="Team")
    EmailAddress.objects.create(user=alice, email="alice@example.org")
    summary = answered.conversation.summaries.create(last=answered.reply, text=SECRETS["summary"], state="done")

    def address(route: str) -> str:
        path = re.sub(r"\^?\(\?P<(\w+)>[^)]*\)\$?", lambda match: STANDS_FOR[match[1]], route.replace("^", ""))
        path = path.replace("<uuid:conversation_id>", str(answered.conversation_id))
        path = path.replace("<uuid:summary_id>", str(summary.id))
        path = path.replace("<uuid:attachment_id>", str(attachment.id))
        path = path.replace("<uuid:turn_id>", str(answered.id)).replace("<path:content_type_id>", "1")
        path = path.replace("<uuid:message_id>", str(answered.question_id))
        path = path.replace("<uuid:record_id>", str(answered.usage_records.get().id))
        path = path.replace("<int:request_id>", str(asked.pk)).replace("<int:user_id>", str(alice.pk))
        path = path.replace("<int:warning_id>", str(warning.pk))
        if model := model_of(route):
            row = next(m for m in admin.site._registry if m._meta.label_lower == model.replace("/", "."))
            newest = row.objects.filter(user=alice).get() if row is Budget else row.objects.order_by("pk").first()
            path = re.sub("<(path:object_)?id>", str(newest.pk), path)
        return "/" + path.replace("<path:object_id>", "1").rstrip("$")

    return address


def stored_picture(owner: User) -> Attachment:
    attachment = Attachment(owner=owner, name=SECRETS["file"], kind="image", size=1, width=1, height=1, thumbnail=b"1")
    attachment.file.save("", ContentFile(b"1"))
    return attachment


def rows(*, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every row of every table, to compare before and after."""
    found = {}
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names(cursor)) - set(but):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = sorted(map(repr, cursor.fetchall()))
    return found
