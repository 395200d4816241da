"""What the bench needs in the database: a process that knows Django and is asked by lines of JSON."""

import json
import sys
import uuid

import django

django.setup()

from django.conf import settings  # noqa: E402  needs the app registry, like everything below
from django.db import transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from bench import library as writings  # noqa: E402
from chat import audit, catalogue, money, spend  # noqa: E402
from chat.models import Budget, BudgetPeriod, Conversation, Message, Turn, UsageRecord, User  # noqa: E402

QUESTION = "How do we know that two of them running at the same moment cannot both take the last dollar?"
ANSWER = """Because the database decides, in **one statement**:

```python
row.filter(held__lte=limit - amount - F("spent")).update(held=F("held") + amount)
```

1. The first one finds room, and takes it.
2. The second one changes *no row*, and says so.

So there is nothing to lock by hand, and nothing to forget. What was held and not used goes back when the answer ends,
and the sum of all entries is the figure on the page, see [the ledger](https://example.org/ledger)."""


@transaction.atomic
def people(count: int, prefix: str) -> dict:
    """People who are signed in: the session of each, and their id."""
    found = []
    for number in range(count):
        person = User.objects.create(username=f"{prefix}{number}")
        found.append({"id": person.pk, "session": _session(person)})
    return {"people": found}


@transaction.atomic
def conversations(owners: list[int], effort: str = "balanced") -> dict:
    """A new conversation for each owner named."""
    model = catalogue.default().id
    made = Conversation.objects.bulk_create(
        Conversation(owner_id=owner, model=model, effort=effort) for owner in owners
    )
    return {"conversations": [str(conversation.id) for conversation in made]}


@transaction.atomic
def thread(messages: int) -> dict:
    """A conversation of so many messages, with turns and the records of their calls, and its owner's session."""
    owner = User.objects.create(username=f"reader-of-{messages}")
    conversation = owner.conversations.create(model=catalogue.default().id, title=f"{messages} messages")
    price, now = spend.current_price(conversation.model)
    said, turns, records, leaf = [], [], [], None
    for _ in range(messages // 2):
        question = Message(conversation=conversation, parent=leaf, role=Message.Role.USER)
        leaf = reply = Message(conversation=conversation, parent=question, role=Message.Role.ASSISTANT)
        for message, text in (question, QUESTION), (reply, ANSWER):
            message.write([{"type": "text", "text": text}])
        said += [question, reply]
        turn = Turn(
            conversation=conversation,
            user=owner,
            question=question,
            reply=reply,
            client_id=uuid.uuid4(),
            model=conversation.model,
            effort=conversation.effort,
            state=Turn.State.DONE,
            finished_at=now,
        )
        turns.append(turn)
        # Free of charge, so that the books agree without entries of the ledger.
        records.append(
            UsageRecord(
                user=owner,
                conversation=conversation,
                turn=turn,
                purpose=UsageRecord.Purpose.REPLY,
                model=price.model,
                price=price,
                price_numbers=price.numbers(),
                input_bound=1000,
                max_tokens=16_000,
                input_tokens=400,
                output_tokens=150,
                duration_ms=2500,
                held=0,
                state=UsageRecord.State.SETTLED,
                stop_reason="end_turn",
                admitted_at=now,
                settled_at=timezone.now(),
            )
        )
    Message.objects.bulk_create(said)
    Turn.objects.bulk_create(turns)
    UsageRecord.objects.bulk_create(records)
    Conversation.objects.filter(id=conversation.id).update(active_leaf=leaf)
    return {"path": conversation.get_absolute_url(), "session": _session(owner)}


def purse(person: int, calls: int) -> dict:
    """Give a person money for so many calls like their last one, beside what they have spent."""
    held = UsageRecord.objects.filter(user=person, purpose=UsageRecord.Purpose.REPLY).latest("admitted_at").held
    period = BudgetPeriod.objects.get(account=f"user:{person}")
    limit = period.spent + calls * held
    Budget.objects.create(user_id=person, limit=limit)
    return {"limit_nanos": limit, "spent_nanos": period.spent}


def books(person: int) -> dict:
    """How a person's account stands, and whether every total is the sum of its entries."""
    period = BudgetPeriod.objects.get(account=f"user:{person}")
    calls = UsageRecord.objects.filter(user=person).exclude(state=UsageRecord.State.VOID).count()
    return {
        "calls": calls,
        "spent": str(money.dollars(period.spent)),
        "over_nanos": max(0, period.spent + period.held - (period.limit or 0)),
        "problems": [str(problem) for problem in audit.problems()],
    }


def library(messages: int) -> dict:
    """So many messages of a thousand people; the session of the one who wrote most, and what to look for."""
    return {"session": _session(writings.fill(messages)), "queries": writings.queries()}


def _session(person: User) -> str:
    client = Client()
    client.force_login(person)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def main() -> None:
    functions = {function.__name__: function for function in (people, conversations, thread, purse, books, library)}
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(functions[name](**arguments)), flush=True)


if __name__ == "__main__":
    main()
