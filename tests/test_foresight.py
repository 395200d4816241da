"""What a message is said to cost before it is sent, and what is held and charged when it is."""

import html
import re
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from chat import doorbell, past, pricing, spend, submission
from chat.claude.request import WANTED_TOKENS
from chat.composer import searches
from chat.foresight import TYPICAL_OUTPUT, Asked, Foresight
from chat.models import Attachment, BudgetPeriod, Price, Turn, UsageRecord
from chat.pricing import Terms, Usage
from chat.templatetags import tally
from tests.books import HAIKU, OPUS, SONNET, few, spent_call, undone
from tests.security.conftest import rows
from tests.talk import ENGLISH, OLD, TEXTS, book, say

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_hears(monkeypatch):
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


def foreseen(person, conversation, text="Hello", model=SONNET, effort="balanced", **asked) -> Foresight:
    return Foresight(person, conversation, Asked(text, model, effort, **asked))


def line(browse, person, conversation=None, text="Hello", **fields) -> str:
    """What the page says below the box, in words."""
    address = f"/conversations/{conversation.id}/foresight/" if conversation else "/foresight/"
    response = browse(person).post(address, {"text": text, "model": SONNET, "effort": "balanced", **fields})
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def numbers(model: str) -> dict:
    return Price.objects.filter(model=model).latest("effective_from").numbers()


# --- At most


STEPS = st.fixed_dictionaries(
    {
        "question": TEXTS,
        "answer": TEXTS | st.just("word " * 400),
        "model": st.sampled_from([SONNET, SONNET, HAIKU, OLD]),
        "books": st.sampled_from(["exact", "exact", "estimated", "void", "none"]),
        "refused": st.booleans(),
        "summary": st.booleans(),
    }
)


@pytest.fixture
def every_model(settings):
    settings.MODELS = [SONNET, HAIKU, OPUS, OLD]


@pytest.mark.usefixtures("every_model")
@few
@given(
    steps=st.lists(STEPS, max_size=5),
    asked=st.tuples(TEXTS, st.sampled_from([SONNET, HAIKU, OPUS, OLD]), st.sampled_from(["quick", "balanced", "deep"])),
    search=st.booleans(),
    system=st.sampled_from(["", "Be brief.", "Rule: " + "x" * 900]),
    cents=st.sampled_from([1, 3, 9, 25, 2_000]),
)
def test_at_most_is_what_is_held_to_the_nano_dollar(alice, limit, steps, asked, search, system, cents):
    """Where it is refused, that is said too; and where it has to be counted, no amount is promised."""
    text, model, effort = asked
    with undone():
        alice.instructions = system[:20]
        conversation = alice.conversations.create(model=SONNET, system_prompt=system)
        for step in steps:
            play(conversation, step)
        conversation.max_searches = searches(wanted=search)
        limit(alice, str(cents / 100))

        said = foreseen(alice, conversation, text, model, effort, searches=searches(wanted=search))
        turn = submission.ask(conversation, text, uuid.uuid4(), model=model, effort=effort)

        held = UsageRecord.objects.filter(turn=turn, state="held").first()
        assert said.at_most == (held.held if held else None)
        assert said.fitted_to == (held.max_tokens if held and held.fitted else None)
        assert bool(said.refusal) == (turn.state == Turn.State.FAILED)
        assert said.in_doubt == (held is None and not said.refusal)


def play(conversation, step: dict) -> None:
    """One exchange that is over, with its books, and perhaps a summary that stands for everything up to it."""
    turn = say(conversation, step["question"], "" if step["refused"] else step["answer"], model=step["model"])
    if step["refused"]:
        Turn.objects.filter(id=turn.id).update(stop_reason="refusal")
    with suppress(spend.OverBudget):
        if step["books"] != "none":
            book(turn, prompt=900, output=40, void=step["books"] == "void", exact=step["books"] == "exact")
    if step["summary"] and not step["refused"]:
        conversation.summaries.create(last=turn.reply, text=step["answer"][:50], state="done")


def counted(turn, **fields) -> None:
    """The call of a turn that is over, with these columns."""
    book(turn, prompt=900, output=40)
    turn.usage_records.update(sent_at=timezone.now(), **fields)


def test_before_the_first_question_of_the_month_the_limit_is_known_all_the_same(alice, limit):
    limit(alice, "0.05")

    said = foreseen(alice, None)
    turn = submission.ask(alice.conversations.create(model=SONNET), "Hello", uuid.uuid4(), model=SONNET)

    assert BudgetPeriod.objects.filter(account=f"user:{alice.pk}").count() == 1
    assert said.at_most == turn.usage_records.get().held
    assert said.fitted_to < WANTED_TOKENS["balanced"]


def test_looking_writes_nothing(browse, alice, conversation):
    say(conversation, "Hello?", "Yes.")
    client = browse(alice)
    client.post("/foresight/", {"text": "Hello"})
    before = rows(but=("django_session",))

    for text in ("", "Hello", "word " * 1_000):
        client.post("/foresight/", {"text": text})
        client.post(f"/conversations/{conversation.id}/foresight/", {"text": text})

    assert rows(but=("django_session",)) == before


def test_what_would_be_refused_is_said_before_it_is_sent_and_what_to_do(browse, alice, conversation, limit, spent):
    limit(alice, "5")
    spent("4.9999")

    said = line(browse, alice, conversation)

    assert said.startswith("This would not be sent: you have used $5.00 of $5.00 this month")
    assert "It starts again on" in said
    assert said.endswith("Ask for more")


def test_what_is_made_to_fit_the_budget_says_so(browse, alice, conversation, limit):
    limit(alice, "0.02")

    assert "made to fit your budget" in line(browse, alice, conversation)


def test_where_only_a_count_can_tell_no_amount_is_promised(browse, alice, conversation, limit):
    limit(alice, "0.02")

    said = line(browse, alice, conversation, "word " * 2_000)

    assert "at most" not in said
    assert "Claude counts it exactly before anything is spent" in said


def test_a_model_without_a_price_says_so(browse, alice, settings):
    settings.MODELS = [SONNET, "model-of-a-gateway"]

    assert "has no price yet" in line(browse, alice, model="model-of-a-gateway")


def test_a_search_is_a_part_of_both(alice, conversation):
    without, searching = foreseen(alice, conversation), foreseen(alice, conversation, searches=3)

    assert searching.about - without.about > 10_000_000  # its fee, and what is read
    assert searching.at_most > without.at_most + 30_000_000


@pytest.fixture
def attached(alice):
    fields = {"kind": "image", "media_type": "image/png", "width": 1_400, "height": 1_400}
    return Attachment.objects.create(owner=alice, name="map.png", size=9, sent_size=9, sha256="0", **fields)


def test_files_are_a_part_of_both(browse, alice, conversation, attached):
    without = foreseen(alice, conversation)
    enclosed = foreseen(alice, conversation, blocks=(attached.block,))

    # 50 by 50 squares of 28 pixels at $2 or $2.50 a million.
    assert 2_500 * 2_000 <= enclosed.about - without.about <= 2_500 * 2_500 + 600_000
    assert enclosed.at_most - without.at_most >= 2_500 * 2_500
    assert line(browse, alice, conversation, attachments=[str(attached.id)]) != line(browse, alice, conversation)


def test_nobody_learns_anything_about_a_file_of_somebody_else(browse, bob, attached):
    assert line(browse, bob, attachments=[str(attached.id)]) == line(browse, bob)


def running(conversation, question: str, **fields) -> Turn:
    """An answer that is being written."""
    turn = Turn.objects.claim(submission.ask(conversation, question, uuid.uuid4(), **fields).id)
    spend.send(turn.usage_records.get(), turn)
    conversation.refresh_from_db()
    return turn


def ended(turn, text: str, stop_reason="max_tokens") -> None:
    """It has become as long as it could, and Claude has counted it."""
    record = turn.usage_records.get()
    turn.reply.write([{"type": "text", "text": text}])
    turn.reply.keep()
    spend.settle(record, Usage(input=record.input_bound, output=record.max_tokens), exact=True)
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason=stop_reason, lease_until=None)


@pytest.mark.parametrize("instructions", ["", "Rule: " + "日" * 6_000])
def test_while_an_answer_is_written_at_most_is_what_is_held_once_it_is_there(alice, conversation, instructions):
    alice.instructions = instructions
    alice.save()
    say(conversation, "Hello?", "Yes.")
    live = running(conversation, "A long one, please.")
    before = line_of_at_most(alice, conversation)
    ended(live, "日本語" * 40_000)

    turn = submission.ask(conversation, "And then?", uuid.uuid4(), model=SONNET)

    held = turn.usage_records.get().held
    assert before >= held
    assert held > spend.quote(submission.call_of(turn, Terms(input_bound=5_000), WANTED_TOKENS["balanced"]))[1]
    submission.stop(Turn.objects.filter(id=turn.id))


def line_of_at_most(person, conversation) -> int:
    said = foreseen(person, conversation, "And then?")
    assert not said.waits
    return said.at_most


@pytest.mark.parametrize(
    ("live", "cents"),
    [({"model": OLD}, 2_000), ({"search": True}, 2_000), ({}, 25)],
    ids=["counted otherwise", "searches", "the budget is short"],
)
@pytest.mark.usefixtures("every_model")
def test_where_the_answer_that_is_written_decides_no_most_is_promised(browse, alice, conversation, limit, live, cents):
    limit(alice, str(cents / 100))
    conversation.max_searches = searches(wanted=live.pop("search", False))
    turn = running(conversation, "A long one, please.", **live)

    said = line(browse, alice, conversation)

    assert re.match(r"About \$[\d.]+\. The most is known when this answer is done\.", said)
    ended(turn, "Yes.")
    assert "at most $" in line(browse, alice, conversation)


def test_of_a_pdf_that_claude_has_not_counted_no_most_is_promised(browse, alice, conversation):
    fields = {"kind": "pdf", "media_type": "application/pdf", "pages": 3}
    pdf = Attachment.objects.create(owner=alice, name="report.pdf", size=9, sent_size=9, sha256="0", **fields)
    asked = {"text": "What is this?", "attachments": [str(pdf.id)]}

    uncounted = line(browse, alice, conversation, **asked)
    turn = say(conversation, "What is this?", "A report.", attachments=[pdf])
    follows = line(browse, alice, conversation)
    counted(turn, input_tokens=9_000)

    for said in (uncounted, follows):
        assert re.match(r"About \$[\d.]+\. Claude counts the PDF before anything is spent\.", said)
    assert "at most $" in line(browse, alice, conversation)


# --- About


def test_about_is_the_prompt_and_a_typical_answer(alice, conversation):
    said = foreseen(alice, conversation, "word " * 100)

    answer = TYPICAL_OUTPUT["balanced"] * 10_000
    assert answer < said.about < answer + 400 * 2_000
    assert said.about < said.at_most


@pytest.mark.parametrize(("effort", "usual"), [("quick", 3_000), ("deep", TYPICAL_OUTPUT["deep"])])
def test_the_usual_length_is_learned_from_ones_own_answers_with_that_model_and_effort(
    alice, conversation, effort, usual
):
    turns = [say(conversation, f"{number}?", "Yes.", model=SONNET, effort="quick") for number in range(5)]
    for turn in turns:
        counted(turn, output_tokens=3_000)

    said = foreseen(alice, alice.conversations.create(model=SONNET), effort=effort)

    assert usual * 10_000 < said.about < usual * 10_000 + 200_000


@pytest.mark.parametrize(
    ("minutes", "effort", "rate"),
    [(1, "balanced", "cache_read"), (6, "balanced", "cache_write_5m"), (1, "deep", "cache_write_5m")],
)
def test_what_is_probably_cached_is_counted_at_the_price_of_reading_it(alice, conversation, minutes, effort, rate):
    turn = say(conversation, "Read.", "Yes.", effort="balanced")
    sent = timezone.now() - timedelta(minutes=minutes)
    counted(turn, input_tokens=0, cache_write_5m_tokens=50_000, output_tokens=5)
    turn.usage_records.update(sent_at=sent)

    said = foreseen(alice, conversation, effort=effort)

    history = 50_000 * numbers(SONNET)[rate] // 10**6
    assert history <= said.of_the_past <= history * 1.01


def test_an_answer_of_the_stand_in_costs_about_what_was_foreseen(
    transactional_db, worker, sandbox, alice, ask, conversation, monkeypatch
):
    monkeypatch.undo()
    for question in ("What is a tide?", "Make a list of ten of them.", "Write code for it.", "Compare them."):
        conversation.refresh_from_db()
        said = foreseen(alice, conversation, question)
        turn = ask(question)

    cost = turn.usage_records.get().cost

    assert cost / 3 < said.about < cost * 3
    assert cost <= said.at_most


# --- A cheaper model


def test_a_much_cheaper_model_is_named_with_its_price(browse, alice, conversation):
    said = line(browse, alice, conversation, "word " * 2_000, model=OPUS)

    assert re.search(r"Haiku 5.5: less than \$0.001$", said)


def test_a_cent_is_not_worth_a_word(alice, conversation):
    assert foreseen(alice, conversation, "Hello", SONNET).cheaper is None
    assert foreseen(alice, conversation, "word " * 9_000, HAIKU).cheaper is None


def test_a_model_that_cannot_read_it_is_not_named(alice, conversation, settings):
    settings.MODELS = [OPUS, OLD]

    assert foreseen(alice, conversation, "word " * 20_000, OPUS).cheaper.id == OLD
    assert foreseen(alice, conversation, "word " * 200_000, OPUS).cheaper is None


# --- The page


def test_an_empty_box_says_what_a_short_message_costs_now_that_so_much_stands_before_it(browse, alice, conversation):
    new = browse(alice).get("/conversations/").content.decode()
    counted(say(conversation, "word " * 90_000, "Yes."), input_tokens=90_000)
    long = browse(alice).get(f"/conversations/{conversation.id}/").content.decode()

    assert "A short message costs about $0.008" in new
    assert "A short message costs about $0.23" in long
    for page in (new, long):
        assert "at least" not in page
        assert "each message" not in page.lower()


@pytest.mark.parametrize(
    ("nano", "words"),
    [
        (72_000, "less than $0.001"),
        (999_999, "less than $0.001"),
        (1_000_000, "about $0.001"),
        (13_400_000, "about $0.013"),
        (528_700_000, "about $0.53"),
        (12_345_678_901, "about $12.35"),
    ],
)
def test_what_is_only_expected_is_said_in_few_digits(nano, words):
    assert tally.about(nano) == words


@pytest.mark.parametrize(
    ("nano", "words"), [(72_000, "$0.001"), (13_400_001, "$0.014"), (528_700_000, "$0.53"), (530_000_001, "$0.54")]
)
def test_at_most_is_never_less_than_it_is(nano, words):
    assert tally.at_most(nano) == words


def test_next_to_nothing_is_left_in_so_many_words(browse, alice, limit, spent):
    limit(alice, "5")
    spent("4.999928")

    assert "less than $0.001 left of $5.00" in browse(alice).get("/conversations/").content.decode()


def test_the_meter_is_quiet_until_it_matters(browse, alice, conversation):
    counted(say(conversation, "Hello?", "Yes."), input_tokens=900)
    quiet = line(browse, alice, conversation)
    counted(say(conversation, "word " * 200_000, "Yes."), input_tokens=340_000)
    loud = line(browse, alice, conversation)

    assert "Context" not in quiet
    assert "Context 34 % Claude reads 340,004 tokens with the next message: about $0.85 of its price" in loud
    assert "Start afresh with a summary" in loud


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (1, "about $0.034 of its price. In a few minutes it costs more."),
        (6, "about $0.85 of its price. A message soon after it costs less."),
    ],
)
def test_the_meter_says_that_the_price_is_that_of_now(browse, alice, conversation, minutes, words):
    turn = say(conversation, "word " * 200_000, "Yes.", effort="balanced")
    counted(turn, input_tokens=0, cache_write_5m_tokens=340_000, output_tokens=5)
    turn.usage_records.update(sent_at=timezone.now() - timedelta(minutes=minutes))

    assert words in line(browse, alice, conversation)


def test_a_long_conversation_offers_a_summary_and_says_what_it_costs(browse, alice, conversation):
    for number in range(12):
        say(conversation, f"{number}?", ENGLISH * 3)

    said = line(browse, alice, conversation)

    assert re.search(r"Summarise the older turns \((about|less than) \$0.0\d+\)", said)


def test_the_look_takes_as_many_queries_however_long_the_branch_is(alice, conversation):
    counts = []
    for number in range(30):
        counted(say(conversation, f"{number}?", ENGLISH[:400]))
        if number in (2, 29):
            for is_known in (False, True):
                with CaptureQueriesContext(connection) as queries:
                    said = foreseen(alice, conversation)
                    assert all([said.about, said.cheaper is None, said.meter])
                counts.append((is_known, len(queries)))

    assert counts[0] == counts[2]
    assert counts[1] == counts[3]
    assert counts[1][1] <= 15
    assert not any("chat_message" in query["sql"] for query in queries)


def test_figures_are_kept_for_a_limited_number_of_branches(alice, monkeypatch):
    monkeypatch.setattr(past, "MOST_KEPT", 3)
    for _ in range(5):
        conversation = alice.conversations.create(model=SONNET)
        say(conversation, "Hello?", "Yes.")
        foreseen(alice, conversation)

    assert len(past._kept) <= 3


@pytest.mark.parametrize("fields", [{"model": "gpt-4"}, {"effort": "immense"}, {"attachments": "x"}])
def test_nonsense_is_not_priced(browse, alice, fields):
    assert browse(alice).post("/foresight/", {"text": "Hello", **fields}).status_code == 422


def test_a_text_that_is_too_long_is_said_to_be(browse, alice):
    response = browse(alice).post("/foresight/", {"text": "x" * 400_001})

    assert response.status_code == 200
    assert "This is too long for one message: 400001 characters of at most 400000." in response.content.decode()


def test_nothing_but_the_estimate_says_less_than_the_dearest_use(alice, conversation):
    spent_call(alice)
    said = foreseen(alice, conversation)

    usage = Usage(cache_write_5m=50, output=WANTED_TOKENS["balanced"])

    assert said.at_most > pricing.cost(numbers(SONNET), usage)
