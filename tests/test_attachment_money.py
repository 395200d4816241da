"""What files cost before they are sent: a bound that holds, and nobody refused for a bound that says nothing."""

import io
import json
import uuid

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from hypothesis import given as example
from hypothesis import strategies as st
from PIL import Image

from chat import catalogue, pricing, spend, submission
from chat.claude import Request, bound_of, request_for, terms_of
from chat.claude.bounds import PER_REQUEST
from chat.claude.enclosures import with_files
from chat.claude.request import SYSTEM
from chat.claude.sizes import EXPECTED_PAGE, PER_FILE
from chat.models import Attachment, BudgetPeriod, Conversation, Turn, UsageRecord
from chat.models.attachment import SENT_EDGE, fitted
from chat.sandbox import tokens
from tests.attached import given, noise, pdf, picture
from tests.books import OPUS, SONNET, bounded, few, row, undone
from tests.conftest import over
from tests.talk import OLD, TEXTS, book, counted, image, say, text
from tests.talk import pdf as pdf_block

pytestmark = pytest.mark.django_db

MODELS = st.sampled_from([SONNET, OPUS, OLD, "model-of-a-gateway"])
SIDES = st.integers(1, 60_000)
SHIPPED = st.sampled_from([SONNET, OPUS, OLD])


@pytest.fixture
def client(browse, alice):
    return browse(alice)


def source(**facts) -> dict:
    return {"type": "attachment", "id": str(uuid.uuid4()), "size": 10, "media_type": "image/png", **facts}


def with_one(block: dict, sent: dict, model: str) -> Request:
    """A question about one file: what stands for it, and what is sent."""
    messages = [{"role": "user", "content": [block, *text("What is this?")]}]
    files = {block["source"]["id"]: sent}
    return Request(model=model, messages=messages, system=SYSTEM, wanted_tokens=400, files=files)


# --- The bound


@bounded
@example(width=SIDES, height=SIDES, model=SHIPPED)
def test_no_picture_has_more_tokens_than_its_pixels_say(width, height, model):
    size = fitted(width, height, SENT_EDGE)
    block = {"type": "image", "source": source(width=size[0], height=size[1])}

    request = with_one(block, image(*size), model)

    assert counted(request) <= bound_of(request)


@bounded
@example(width=SIDES, height=SIDES, model=MODELS)
def test_no_picture_is_bound_by_more_than_the_largest_one(width, height, model):
    size = fitted(width, height, SENT_EDGE)
    block = {"type": "image", "source": source(width=size[0], height=size[1])}
    empty = {"type": "image", "source": source(width=1, height=1)}

    more = bound_of(with_one(block, {}, model)) - bound_of(with_one(empty, {}, model))

    assert 0 <= more < (1_568 if model == OLD else 4_784)


def test_a_small_picture_is_bound_by_little(client, conversation):
    turn = conversation.start_turn("?", uuid.uuid4(), attachments=[given(client, picture(size=(280, 280)), "a.png")])

    assert bound_of(request_for(turn)) < PER_REQUEST + len(SYSTEM) + 100 + PER_FILE + 50


@bounded
@example(words=TEXTS, name=TEXTS, model=SHIPPED)
def test_no_text_has_more_tokens_than_its_bytes(words, name, model):
    title = name[:120]
    facts = source(size=len(words.encode()), media_type="text/plain")
    sent = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": words}, "title": title}

    request = with_one({"type": "document", "source": facts, "title": title}, sent, model)

    assert counted(request) <= bound_of(request)


@bounded
@example(pages=st.integers(1, 100), model=SHIPPED)
def test_no_pdf_has_more_tokens_than_its_bound_and_the_sandbox_expects_no_more_of_a_page(pages, model):
    block = {"type": "document", "source": source(pages=pages, media_type="application/pdf"), "title": "a.pdf"}

    request = with_one(block, pdf_block(pages, title="a.pdf"), model)

    window = catalogue.find(model).context
    assert bound_of(request) == window, "what is longer is refused, and not billed"
    assert min(window, counted(request)) <= bound_of(request, expected=True) <= window


def test_what_is_expected_of_a_pdf_are_its_pages(client, conversation):
    turn = conversation.start_turn("?", uuid.uuid4(), attachments=[given(client, pdf(7), "a.pdf")])

    assert 0 < bound_of(request_for(turn), expected=True) - 7 * EXPECTED_PAGE < 1_500


@few
@example(
    sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=3),
    form=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    known=st.booleans(),
    lost=st.booleans(),
)
def test_no_conversation_with_pictures_has_more_tokens_than_its_bound(alice, sizes, form, known, lost):
    """Real files, drawn, read again and counted; also after some of them were lost since the last count."""
    with transaction.atomic():
        conversation = alice.conversations.create(model=SONNET)
        for number, (width, height) in enumerate(sizes):
            attachment = _stored(alice, form, width, height)
            turn = conversation.start_turn("?", uuid.uuid4(), attachments=[attachment])
            if lost and number == len(sizes) - 1:
                for gone in conversation.attachments.all():
                    gone.sent_file.storage.delete(gone.sent_file.name)
            request = with_files(request_for(turn))

            assert counted(request) <= bound_of(request, turn)
            Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE)
            turn.reply.write(text("Yes."))
            turn.reply.keep()
            if known:
                book(turn, counted(request), 2)
        transaction.set_rollback(True)


def _stored(owner, form: str, width: int, height: int) -> Attachment:
    data = io.BytesIO()
    Image.new("RGB", (width, height)).save(data, form)
    attachment = Attachment(owner=owner, name="x" * 120, kind="image", width=width, height=height, size=1, sent_size=1)
    attachment.media_type = Image.MIME[form]
    attachment.sent_file.save("", ContentFile(data.getvalue()), save=False)
    attachment.save()
    return attachment


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_what_is_sent_of_a_picture_has_the_pixels_that_were_priced(client, conversation, form):
    for size in [(3_001, 17), (2_577, 2_575), (1, 3_000), (2_576, 2_576), (999, 1_001)]:
        attachment = given(client, picture(form, size), "a.png")
        turn = conversation.start_turn("?", uuid.uuid4(), attachments=[attachment])
        request = with_files(request_for(turn))

        assert counted(request) <= bound_of(request, turn)
        assert max(attachment.sent_pixels) <= SENT_EDGE
        submission.stop(Turn.objects.all())


def test_the_web_opens_no_file_to_price_a_message(client, send):
    attachments = [given(client, picture(), "a.png"), given(client, pdf(2), "b.pdf"), given(client)]
    for attachment in attachments:
        attachment.file.storage.delete(attachment.file.name)
        if attachment.sent_file:
            attachment.sent_file.storage.delete(attachment.sent_file.name)

    response = send("Look", attachments=[a.id for a in attachments])

    assert response.status_code == 302
    assert UsageRecord.objects.get().state == "held"
    submission.stop(Turn.objects.all())


def test_an_exact_count_stands_for_the_files_before_it(client, conversation):
    first = conversation.start_turn("?", uuid.uuid4(), attachments=[given(client, pdf(3), "a.pdf")])
    first.reply.write(text("Three pages."))
    first.reply.keep()
    book(first, prompt=9_000, output=4)

    turn = say(conversation, "And?")

    assert 9_004 < bound_of(request_for(turn), turn) < 9_004 + PER_FILE + 500


# --- Refused or not


def price_of(conversation: Conversation, *attachments: Attachment, expected: bool = True) -> int:
    """What a question about these files holds, in nano-dollars."""
    with undone():
        turn = conversation.start_turn("Look", uuid.uuid4(), attachments=attachments)
        return worst(turn, terms_of(request_for(turn), turn, expected=expected))


def worst(turn: Turn, terms: pricing.Terms, tokens: int = 16_000) -> int:
    price, _ = spend.current_price(turn.model)
    return pricing.worst_case(price.numbers(), terms, tokens)


def test_a_picture_fits_into_a_limit_to_the_nano_dollar(client, conversation, send, alice, limit_nano):
    photo = given(client, picture(size=(600, 400)), "a.png")
    price = price_of(conversation, photo)
    limit_nano(alice, price)

    send("Look", attachments=[photo.id])

    record = UsageRecord.objects.get()
    assert (record.max_tokens, record.fitted) == (16_000, False)
    assert row(f"user:{alice.pk}").held == record.held == price
    submission.stop(Turn.objects.all())


def test_with_a_little_less_money_the_answer_about_a_picture_is_made_shorter(
    client, conversation, send, alice, limit_nano
):
    photo = given(client, picture(size=(600, 400)), "a.png")
    limit_nano(alice, price_of(conversation, photo) - 1)

    send("Look", attachments=[photo.id])

    record = UsageRecord.objects.get()
    assert (record.max_tokens, record.fitted) == (15_999, True)
    submission.stop(Turn.objects.all())


def test_without_money_a_picture_is_refused_at_once_and_its_question_kept(client, send, alice, limit_nano):
    photo = given(client, picture(), "a.png")
    limit_nano(alice, 1)

    send("Look", attachments=[photo.id])

    turn = Turn.objects.get()
    assert (turn.state, turn.error) == ("failed", "over_budget")
    assert turn.question.attachments == [photo]
    assert not UsageRecord.objects.exists()


def test_a_file_makes_no_refusal_certain(alice):
    terms = pricing.Terms(input_bound=1_000_000, of_files=990_000)
    asked = spend.Call(alice, UsageRecord.Purpose.SUMMARY, SONNET, terms, 1_000)
    price, _ = spend.current_price(SONNET)
    numbers = price.numbers()
    of_its_text = pricing.worst_case(numbers, pricing.Terms(input_bound=10_000 // 16), asked.least)

    def is_certain(left: int) -> bool:
        return spend.OverBudget(None, BudgetPeriod(limit=left), asked, numbers).is_certain

    assert not is_certain(of_its_text)
    assert is_certain(of_its_text - 1)


@bounded
@example(bound=st.integers(0, 2_000_000), part=st.integers(0, 100), left=st.integers(0, 10**10))
def test_a_refusal_with_files_is_never_more_certain_than_without(bound, part, left):
    numbers = dict.fromkeys(pricing.KINDS, 2000000000)

    def is_certain(of_files: int) -> bool:
        terms = pricing.Terms(input_bound=bound, of_files=of_files)
        call = spend.Call(None, "reply", SONNET, terms, 1_000)
        return spend.OverBudget(None, BudgetPeriod(limit=left), call, numbers).is_certain

    assert is_certain(bound * part // 100) <= is_certain(0)


def test_what_is_in_the_files_does_not_change_what_stands_in_the_books(alice):
    terms = pricing.Terms(input_bound=100, of_files=60)

    record = spend.admit(spend.Call(alice, UsageRecord.Purpose.SUMMARY, SONNET, terms, 1_000))

    assert spend.terms_of(record) == pricing.Terms(input_bound=100)
    assert "of_files" not in json.dumps(record.terms)
    spend.void(record)


# --- A PDF, of which nobody knows how much is in it


@pytest.fixture
def chat(conversation, sandbox):
    """Has a title, so that no other call is made; and the sandbox has nothing left to do of another test."""
    Conversation.objects.filter(id=conversation.id).update(title="Files")
    return conversation


threaded = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker", "chat")]


def calls(turn: Turn) -> list[UsageRecord]:
    return list(turn.usage_records.order_by("admitted_at", "id"))


@pytest.mark.django_db
def test_a_pdf_holds_what_its_pages_are_expected_to_cost_and_not_the_whole_window(client, conversation, send, alice):
    report = given(client, pdf(3), "a.pdf")
    price, of_the_window = price_of(conversation, report), price_of(conversation, report, expected=False)

    send("Look", attachments=[report.id])

    assert UsageRecord.objects.get().held == price < of_the_window / 10
    submission.stop(Turn.objects.all())


@pytest.mark.parametrize("dollars", ["0.06", "20"])
class TestAPdf:
    pytestmark = threaded

    def test_is_counted_before_it_is_sent_and_never_costs_more_than_is_held(self, client, ask, alice, limit, dollars):
        limit(alice, dollars)

        turn = ask("Look", attachments=[given(client, pdf(2), "a.pdf").id])

        record = calls(turn)[-1]
        assert turn.state == "done"
        assert record.cost <= record.held
        assert record.prompt_tokens <= record.input_bound


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_a_pdf_that_is_more_than_was_expected_is_held_for_again_before_it_is_sent(client, ask, sandbox):
    report = given(client, pdf(9), "a.pdf")
    Attachment.objects.filter(id=report.id).update(pages=1)

    turn = ask("Look", attachments=[report.id])

    too_little, record = calls(turn)
    assert (too_little.state, too_little.sent_at) == ("void", None)
    assert record.state == "settled"
    assert too_little.input_bound < record.prompt_tokens <= record.input_bound
    assert record.cost <= record.held
    assert len(sandbox.invoice) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_an_answer_is_not_made_shorter_for_what_was_only_expected(client, ask, alice, limit_nano, chat):
    report = given(client, pdf(9), "a.pdf")
    limit_nano(alice, price_of(chat, report) - 5_000 * 11_000)

    turn = ask("Look", attachments=[report.id])

    expected, record = calls(turn)
    assert expected.fitted
    assert expected.state == "void"
    assert (record.max_tokens, record.fitted) == (16_000, False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_a_pdf_that_claude_would_not_count_is_sent_only_with_money_for_the_whole_window(
    client, ask, sandbox, alice, limit
):
    limit(alice, "3")
    sandbox.enqueue(on="count_tokens", status="500", times=9)

    turn = ask("Look", attachments=[given(client, pdf(2), "a.pdf").id])

    assert turn.state == "done"
    assert calls(turn)[-1].input_bound == catalogue.find(turn.model).context


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_a_pdf_that_claude_would_not_count_is_refused_without_that_money(client, ask, sandbox, alice, limit):
    limit(alice, "1")
    sandbox.enqueue(on="count_tokens", status="500", times=9)

    turn = ask("Look", attachments=[given(client, pdf(2), "a.pdf").id])

    assert (turn.state, turn.error) == ("failed", "over_budget")
    assert not sandbox.invoice
    assert row(f"user:{alice.pk}").held == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_a_picture_is_not_counted_first_since_its_bound_is_good(client, ask, sandbox):
    sandbox.enqueue(on="count_tokens", status="500", times=9)

    turn = ask("Look", attachments=[given(client, noise("PNG", (200, 200)), "a.png").id])

    [record] = calls(turn)
    assert record.state == "settled"
    assert record.prompt_tokens <= record.input_bound < 2_000


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker", "chat")
def test_a_picture_is_paid_for_with_every_message_that_follows(client, ask, sandbox):
    photo = given(client, picture(size=(1_000, 1_000)), "a.png")
    alone = tokens.of_block(image(1_000, 1_000), "new")

    first = ask("Look", attachments=[photo.id])
    second = ask("And?")

    assert calls(first)[0].prompt_tokens > alone
    assert calls(second)[0].prompt_tokens > alone
    assert calls(second)[0].cost <= calls(second)[0].held
    [sent, _] = sandbox.requests[-1]["body"]["messages"][0]["content"]
    assert sent["source"]["data"] == sandbox.requests[0]["body"]["messages"][0]["content"][0]["source"]["data"]


# --- More than the API takes


def test_more_than_the_api_takes_in_one_request_is_said_before_it_is_sent(client, send):
    large = [given(client, picture(), f"{number}.png") for number in range(3)]
    Attachment.objects.update(sent_size=7_500_000)

    response = send("Look", attachments=[a.id for a in large])

    assert response.status_code == 422
    assert "more than Claude takes at once" in response.content.decode()
    assert not Turn.objects.exists()
    assert not Attachment.objects.exclude(conversation=None).exists(), "they wait in the composer"


def test_what_the_conversation_has_already_counts(client, conversation, send):
    first, second = given(client, picture(), "a.png"), given(client, picture(), "b.png")
    Attachment.objects.update(sent_size=11_000_000)
    send("Look", attachments=[first.id])
    submission.stop(Turn.objects.all())

    response = send("And?", attachments=[second.id])

    assert response.status_code == 422
    assert "start a new chat" in response.content.decode()


def test_a_model_with_a_small_window_takes_fewer_pages(client, conversation, send, settings):
    settings.MODELS = [OLD, SONNET]
    report = given(client, pdf(101), "a.pdf")

    small = send("Look", attachments=[report.id], model=OLD)
    large = send("Look", attachments=[report.id], model=SONNET)

    assert small.status_code == 422
    assert "100 pages" in small.content.decode()
    assert large.status_code == 302
    submission.stop(Turn.objects.all())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_a_conversation_whose_files_a_model_does_not_take_is_not_sent_to_it(client, chat, ask, sandbox, settings):
    settings.MODELS = [OLD, SONNET]
    ask("Look", attachments=[given(client, pdf(101), "a.pdf").id], model=SONNET)

    turn = over(ask("And?", model=OLD))

    assert (turn.state, turn.error) == ("failed", "too_large")
    assert len(sandbox.invoice) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_twenty_one_large_pictures_are_within_what_the_api_takes(client, chat, ask, settings):
    settings.FILES_PER_MESSAGE = 30
    large = [given(client, picture(size=(2_400, 100)), "a.png").id for _ in range(21)]

    turn = ask("Look", attachments=large)

    assert turn.state == "done"
    assert calls(turn)[0].cost <= calls(turn)[0].held


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_many_megabytes_reach_claude_and_cost_what_their_pixels_do(client, chat, ask, sandbox):
    photos = [given(client, noise("JPEG", (2_500, 2_500)), "photo.jpg").id for _ in range(3)]

    turn = ask("Look", attachments=photos)

    [record] = calls(turn)
    assert turn.state == "done"
    assert len(json.dumps(sandbox.requests[-1]["body"])) > 10_000_000
    assert 3 * 4_784 < record.prompt_tokens <= record.input_bound < 3 * (4_784 + PER_FILE) + 1_000
