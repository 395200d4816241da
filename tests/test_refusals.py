"""What is refused is refused with words, and nobody who has money left is refused (P2; C26, C27)."""

import html
import uuid

import pytest
from django.utils import timezone

from chat import submission
from chat.budgets import day_words
from chat.models import LedgerEntry, Message, Price, Turn, UsageRecord
from chat.money import nano, spoken
from tests.books import HAIKU, OPUS, SONNET
from tests.conftest import over, streams_in
from tests.pages import composer_error, composer_text

HTMX = {"HX-Request": "true"}


@pytest.fixture
def priced():
    """`priced(SONNET, input=0)`: from now on that model costs what it did, but for this."""

    def priced(model: str, **amounts) -> None:
        price = Price.objects.in_force(model, timezone.now()).first()
        fields = {"effective_from": timezone.now(), **amounts}
        for name, value in fields.items():
            setattr(price, name, value)
        price.pk, price._state.adding = None, True
        price.save()

    return priced


def written() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in (Message, Turn, UsageRecord, LedgerEntry)}


# --- Nobody is refused who has money left

runs_turns = pytest.mark.django_db(transaction=True)


@runs_turns
@pytest.mark.parametrize("effort", ["quick", "deep"])
def test_25_dollars_and_a_model_with_128k_output_give_a_whole_answer(ask, sandbox, worker, limit, alice, page, effort):
    limit(alice, "25")
    sandbox.enqueue(say="Forty-two.")

    turn = ask(model="claude-fable-5-2", effort=effort)

    shown = page(turn)
    assert (shown.status, shown.text, shown.ending) == ("done", "Forty-two.", "")
    assert "Made to fit" not in shown.footer


@runs_turns
@pytest.mark.parametrize("model", [HAIKU, SONNET, OPUS])
def test_with_little_money_an_answer_is_made_to_fit_and_says_so(ask, sandbox, worker, limit, alice, page, model):
    limit(alice, "0.05")
    if model == HAIKU:
        limit(alice, "0.002")
    sandbox.enqueue(say="Forty-two.")

    turn = ask(model=model, effort="deep")

    shown, record = page(turn), turn.usage_records.get()
    assert (shown.status, shown.text, shown.ending) == ("done", "Forty-two.", "")
    assert f"Made to fit your budget: at most {record.max_tokens:,} tokens" in shown.footer
    assert streams_in(sandbox)[0]["max_tokens"] == record.max_tokens < 32_000


@runs_turns
def test_five_turns_at_once_on_2000_dollars_with_14_cents_used_are_all_answered(
    send, sandbox, worker, limit, alice, spent, page
):
    limit(alice, "2000")
    spent("0.14")
    sandbox.enqueue(times=5, tokens=20, rate=40)
    conversations = [alice.conversations.create(model=OPUS, effort="deep") for _ in range(5)]

    for conversation in conversations:
        send("Hello", to=conversation)

    turns = [over(turn) for turn in Turn.objects.all()]
    assert [turn.state for turn in turns] == ["done"] * 5
    assert not UsageRecord.objects.filter(purpose="reply", fitted=True).exists()
    assert len(streams_in(sandbox)) == 5


# --- A refusal is a message in the chat


@runs_turns
def test_a_refusal_says_what_was_used_what_is_left_when_it_resets_and_what_still_fits(
    ask, sandbox, worker, limit, alice, spent, page
):
    limit(alice, "1.003")
    spent("1.0005")

    turn = ask("A question that does not fit", model=SONNET)

    shown, end = page(turn), UsageRecord.objects.get().entries.first().period.end
    assert (shown.status, shown.text, shown.footer) == ("failed", "", "")
    assert f"you have used {spoken(nano('1.0005'))} of {spoken(nano('1.003'))} this month" in shown.ending
    assert f"{spoken(nano('0.0025'))} is left" in shown.ending
    assert f"It starts again on {day_words(end)}." in shown.ending
    assert shown.ending.endswith("Still possible: Claude Haiku 5.5.")
    assert not sandbox.requests
    assert turn.question.text == "A question that does not fit"


@runs_turns
def test_the_model_that_a_refusal_names_does_answer(ask, sandbox, worker, limit, alice, page):
    limit(alice, "0.0025")
    assert page(ask(model=SONNET)).ending.endswith("Still possible: Claude Haiku 5.5.")
    sandbox.enqueue(say="Forty-two.")

    turn = ask(model=HAIKU)

    assert page(turn).text == "Forty-two."


@runs_turns
def test_a_person_at_the_limit_can_read_see_what_was_spent_and_rename(
    ask, sandbox, worker, limit, alice, spent, page, browse, conversation
):
    sandbox.enqueue(say="An answer of better days.")
    before = ask()
    spent("0.30")
    limit(alice, "0.30")
    client = browse(alice)

    refused = ask("One more?")

    assert "Still possible" not in page(refused).ending
    assert page(before).text == "An answer of better days."
    assert "$0.30" in client.get("/spend/").content.decode()
    client.post(f"/conversations/{conversation.id}/settings/", {"title": "Kept", "system_prompt": ""})
    conversation.refresh_from_db()
    assert conversation.title == "Kept"
    assert "Kept" in client.get("/conversations/").content.decode()


@runs_turns
@pytest.mark.parametrize("amounts", [None, {"input": 0}, {"output": -nano("1")}], ids=["none", "zero", "negative"])
def test_a_model_without_a_price_is_not_asked_and_the_reader_is_told(
    ask, sandbox, worker, page, priced, settings, browse, alice, amounts
):
    model = SONNET if amounts else "claude-without-price"
    settings.MODELS = [model, HAIKU]
    if amounts:
        priced(model, **amounts)

    turn = ask(model=model)

    assert page(turn).ending.startswith("This model has no price yet, so nothing was sent. Choose another model.")
    assert not sandbox.requests
    assert not UsageRecord.objects.exists()
    assert "has no price yet" in browse(alice).get("/conversations/").content.decode()


# --- Bad input: clear words, the text kept, nothing written

BAD_FIELDS = [
    ({"model": "gpt-4"}, "This model is not offered here. Choose one from the list."),
    ({"model": "claude-opus-5"}, "This model is not offered here. Choose one from the list."),
    ({"effort": "max"}, "Choose quick, balanced or deep."),
    ({"client_id": "1234"}, "This form is out of date. Reload the page; your text stays here."),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("fields", "words"), BAD_FIELDS)
@pytest.mark.parametrize("new", [False, True], ids=["in a conversation", "in a new one"])
def test_without_javascript_the_text_comes_back_with_words(browse, alice, conversation, fields, words, new):
    path = "/conversations/" if new else f"/conversations/{conversation.id}/messages/"
    text = "  A long thought,\nwith <b>code</b> & a line.\n"
    before = written()

    response = browse(alice).post(path, {"text": text, "client_id": uuid.uuid4(), **fields})

    body = response.content.decode()
    assert response.status_code == 422
    assert composer_error(body) == words
    assert composer_text(body) == text
    assert written() == before
    assert alice.conversations.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("fields", "words"), BAD_FIELDS)
def test_with_htmx_only_the_words_come_and_the_box_is_left_alone(send, conversation, fields, words):
    before = written()

    response = send("A long thought", htmx=True, **fields)

    body = response.content.decode()
    assert response.status_code == 422
    assert composer_error(body) == words
    assert "composer-text" not in body
    assert "composer-client" not in body
    assert written() == before


@pytest.mark.django_db
def test_too_long_a_text_is_told_its_length_and_comes_back_whole(send, conversation):
    text = "x" * 400_001
    before = written()

    response = send(text)

    assert response.status_code == 422
    assert "400001 characters of at most 400000" in composer_error(response.content.decode())
    assert composer_text(response.content.decode()) == text
    assert written() == before


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", "   ", "\n\t\r\n"], ids=repr)
def test_nothing_sent_in_a_new_conversation_makes_no_message(browse, alice, text):
    browse(alice).post("/conversations/", {"text": text, "client_id": uuid.uuid4()})

    assert written() == {"Message": 0, "Turn": 0, "UsageRecord": 0, "LedgerEntry": 0}


@pytest.mark.django_db
@pytest.mark.parametrize("htmx", [False, True])
def test_the_same_id_with_another_text_is_told_that_it_was_sent_before(send, conversation, htmx):
    client_id = uuid.uuid4()
    send("The first text", client_id)
    before = written()

    response = send("Another text", client_id, htmx=htmx)

    body = response.content.decode()
    assert response.status_code == 409
    assert composer_error(body).startswith("What stood here before was sent already, and this is another text.")
    assert htmx or composer_text(body) == "Another text"
    assert written() == before
    submission.stop(Turn.objects.all())


@pytest.mark.django_db
@pytest.mark.parametrize("htmx", [False, True])
def test_a_second_tab_is_told_that_an_answer_is_being_written(send, conversation, htmx):
    send("From the first tab")
    before = written()

    response = send("From the second tab", htmx=htmx)

    body = response.content.decode()
    assert response.status_code == 409
    assert composer_error(body).startswith("An answer is still being written here. Your text stays")
    assert htmx or composer_text(body) == "From the second tab"
    assert written() == before
    submission.stop(Turn.objects.all())


@pytest.mark.django_db
@pytest.mark.parametrize("htmx", [False, True])
def test_a_conversation_of_somebody_else_is_not_there(send, conversation, bob, htmx):
    before = written()

    response = send("Hello", to=conversation, by=bob, htmx=htmx)

    assert response.status_code == 404
    assert str(conversation.id) not in html.unescape(response.content.decode())
    assert written() == before
