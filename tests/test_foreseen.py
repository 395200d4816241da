"""What was said before sending, and what became of it: in any conversation, against the sandbox's own invoice."""

import html
import re
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat import doorbell, turns
from chat.composer import searches
from chat.foresight import CHEAPER_BY, CHEAPER_PART, Asked, Foresight
from chat.money import nano
from tests.attached import CODE, pdf, picture
from tests.attached import given as handed_in
from tests.books import HAIKU, OPUS, SONNET, few, undone
from tests.talk import ENGLISH, OLD, TEXTS, book, say
from tests.test_billed import SHAPES

FILES = {"cat.png": picture(size=(900, 700)), "notes.txt": CODE * 30, "report.pdf": pdf(2)}
STEPS = st.fixed_dictionaries(
    {
        "text": TEXTS | st.sampled_from([ENGLISH[:3_000], "日本語のテキスト。" * 60]),
        "model": st.sampled_from([SONNET, SONNET, HAIKU, OPUS, OLD]),
        "effort": st.sampled_from(["quick", "balanced"]),
        "search": st.booleans(),
        "file": st.sampled_from(["", "", *FILES]),
        "instructions": st.sampled_from(["", "Rule: " + "x" * 500]),
        "shape": SHAPES,
        "cents": st.sampled_from([3, 9, 25, 2_000]),
    }
)


@pytest.fixture(autouse=True)
def nobody_hears(monkeypatch):
    """The test carries the turns itself."""
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


@pytest.mark.django_db(transaction=True)
@settings(few, max_examples=15)
@given(steps=st.lists(STEPS, min_size=1, max_size=3))
def test_the_page_never_says_at_most_less_than_is_held_or_charged(alice, browse, limit, sandbox, settings, steps):
    settings.MODELS = [SONNET, OPUS, HAIKU, OLD]
    client = browse(alice)
    conversation = alice.conversations.create(model=SONNET, title="Named")
    for number, step in enumerate(steps):
        alice.budgets.all().delete()
        limit(alice, str(Decimal(step["cents"]) / 100))
        type(alice).objects.update(instructions=step["instructions"])
        fields = composed(client, step)
        words = line(client, conversation, fields)
        sandbox.reset()
        sandbox.enqueue(**step["shape"])

        client.post(f"/conversations/{conversation.id}/messages/", {**fields, "client_id": uuid.uuid4()})

        turn = conversation.turns.latest("created_at")
        held = turn.usage_records.filter(state="held").first()
        # How much is in a PDF only Claude knows: what is held for it is no promise.
        has_pdf = "report.pdf" in [other["file"] for other in steps[: number + 1]]
        assert ("at most" in words) == bool(held) or has_pdf, words
        turns.run(turn.id)
        [first, *_] = [*turn.usage_records.exclude(sent_at=None).order_by("admitted_at"), None]
        if held and first:
            assert held.held == first.held or has_pdf, "nothing changed in between"
            assert first.held >= first.cost
            assert "at most" not in words or at_most(words) >= first.held
            assert first.cost >= sandbox.invoice[0].cost_nanos
        conversation.refresh_from_db()


def composed(client, step: dict) -> dict:
    """What stands in the composer."""
    files = [handed_in(client, FILES[step["file"]], step["file"]).id] if step["file"] else []
    search = {"search": "1"} if step["search"] else {}
    chosen = {"model": step["model"], "effort": step["effort"]}
    return {"text": step["text"], "composer": "1", "attachments": files, **chosen, **search}


def line(client, conversation, fields: dict) -> str:
    response = client.post(f"/conversations/{conversation.id}/foresight/", fields)
    assert response.status_code == 200, response.content.decode()
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def at_most(words: str) -> int:
    return nano(re.search(r"at most \$([\d.,]+)", words)[1].replace(",", "").rstrip("."))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tokens", [30, 900])
def test_where_answers_are_as_long_as_usual_about_is_right_within_a_third(alice, browse, conversation, sandbox, tokens):
    client = browse(alice)
    for number in range(5):
        said = foreseen(alice, conversation, f"Tell me about chapter {number}, please.")
        sandbox.enqueue(tokens=tokens, rate=100_000, ttft=0)
        client.post(f"/conversations/{conversation.id}/messages/", {"text": said.asked.text, "client_id": uuid.uuid4()})
        turns.run(conversation.turns.latest("created_at").id)
        conversation.refresh_from_db()

    charged = conversation.usage_records.filter(purpose="reply").latest("admitted_at").cost

    assert said.about * 2 / 3 <= charged <= said.about * 4 / 3


# --- The cheaper model

LENGTHS = st.sampled_from([20, 300, 3_000, 20_000])


def foreseen(person, conversation, text: str, model=SONNET, effort="balanced", **asked) -> Foresight:
    return Foresight(person, conversation, Asked(text, model, effort, **asked))


@few
@pytest.mark.django_db
@given(
    exchanges=st.lists(st.tuples(TEXTS | st.just(ENGLISH), st.sampled_from([SONNET, OPUS, HAIKU, OLD])), max_size=4),
    lengths=st.fixed_dictionaries(dict.fromkeys((SONNET, OPUS, HAIKU, OLD), LENGTHS)),
    asked=st.tuples(st.sampled_from(["Hello", "word " * 9_000]), st.sampled_from([SONNET, OPUS, HAIKU, OLD])),
    search=st.booleans(),
    cents=st.sampled_from([5, 50, 2_000]),
)
def test_a_cheaper_model_that_is_named_costs_as_little_as_is_said_once_it_is_chosen(
    alice, limit, settings, exchanges, lengths, asked, search, cents
):
    settings.MODELS = [SONNET, OPUS, HAIKU, OLD]
    text, model = asked
    with undone():
        conversation = alice.conversations.create(model=SONNET)
        for answer, by in exchanges:
            book(say(conversation, "And?", answer, model=by), prompt=900, output=40)
        for by, length in lengths.items():
            used_to(alice, by, length)
        limit(alice, str(cents / 100))
        times = {"searches": searches(wanted=search)}

        said = foreseen(alice, conversation, text, model, **times)

        if said.cheaper:
            chosen = foreseen(alice, conversation, text, said.cheaper.id, **times)
            assert said.cheaper.about * CHEAPER_PART <= said.about
            assert said.about - said.cheaper.about > CHEAPER_BY
            assert chosen.cheaper is None or chosen.cheaper.about < said.cheaper.about
            assert not chosen.refusal
            assert chosen.about * 3 / 4 <= said.cheaper.about <= chosen.about * 4 / 3


def used_to(person, model: str, length: int) -> None:
    """The person's answers by that model have had so many tokens."""
    elsewhere = person.conversations.create(model=model)
    for number in range(3):
        turn = say(elsewhere, f"{number}?", "Yes.", model=model, effort="balanced")
        book(turn, prompt=100, output=9)
        turn.usage_records.update(output_tokens=length)
