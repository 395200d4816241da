"""Questions asked differently and answers tried again stand beside the old ones, and nothing is overwritten."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from chat import doorbell, spend
from chat.claude import bound_of, request_for
from chat.models import Conversation, Message, Turn, UsageRecord
from tests.books import HAIKU, OPUS, SONNET
from tests.conftest import over, wait_until
from tests.pages import composer_error
from tests.talk import say

pytestmark = pytest.mark.django_db

BUSY = "An answer is still being written here."


@pytest.fixture
def client(browse, alice):
    return browse(alice)


@pytest.fixture
def htmx(browse, alice):
    return browse(alice, **{"HX-Request": "true"})


@pytest.fixture
def edit(client):
    """Alice saves and sends another wording: `edit(turn, "Two, then?")`."""

    def edit(turn: Turn, text: str, client_id=None, by=client):
        fields = {"text": text, "client_id": client_id or uuid.uuid4()}
        return by.post(f"/messages/{turn.question_id}/siblings/", fields)

    return edit


@pytest.fixture
def again(client):
    """Alice presses Try again at an answer, on a page that shows so many of them."""

    def again(turn: Turn, seen: int = 1, by=client, **fields):
        return by.post(f"/turns/{turn.id}/retries/?seen={seen}", fields)

    return again


@pytest.fixture
def shown(client, conversation):
    """What Alice's page says now, message by message."""
    return lambda address="": texts(client.get(f"/conversations/{conversation.id}/{address}"))


@pytest.fixture
def unheard(monkeypatch):
    """No worker hears of a question, so that its turn stays in the queue."""
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


def texts(response) -> list[str]:
    found = re.findall(r'(?s)id="(?:said|done)-[^>]*>(.*?)</div>', response.content.decode())
    return [re.sub(r"<[^>]+>", "", words).strip() for words in found]


def end(text: str) -> Turn:
    """The turn that is live is over, with this answer, and cost nothing."""
    turn = Turn.objects.live().get()
    turn.reply.write([{"type": "text", "text": text}])
    turn.reply.keep()
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason="end_turn")
    for record in turn.usage_records.filter(state=UsageRecord.State.HELD):
        spend.void(record)
    return turn


def place(response, message_id) -> str:
    """ "2/3" where a message has siblings."""
    body = response.content.decode()
    article = re.search(rf'(?s)id="message-{message_id}".*?</article>', body)[0]
    found = re.search(r"<span>(\d+/\d+)</span>", article)
    return found[1] if found else ""


# --- A question asked differently


def test_an_edited_question_is_shown_with_what_follows_it_and_the_old_one_stays(conversation, edit, shown):
    say(conversation, "One?", "One.")
    second = say(conversation, "Two?", "Two.")
    say(conversation, "Three?", "Three.")

    response = edit(second, "Two, then?")
    new = end("Two, then.")

    assert response.url == f"/conversations/{conversation.id}/?message={new.question_id}#message-{new.question_id}"
    assert shown() == ["One?", "One.", "Two, then?", "Two, then."]
    assert new.question.parent_id == second.question.parent_id
    assert conversation.messages.count() == 8
    assert Message.objects.get(id=second.question_id).text == "Two?"


def test_the_first_question_can_be_edited_and_the_chat_keeps_its_title(conversation, edit, shown):
    first = say(conversation, "How do tides work?", "By the moon.")
    Conversation.objects.filter(id=conversation.id).update(title="Tides")

    edit(first, "How do volcanoes work?")
    end("By pressure.")

    assert shown() == ["How do volcanoes work?", "By pressure."]
    assert Conversation.objects.get().title == "Tides"
    assert conversation.messages.filter(parent=None).count() == 2


def test_the_form_has_the_text_and_without_javascript_it_stands_in_the_thread(conversation, client, htmx):
    turn = say(conversation, "One <b>?", "One.")
    address = f"/messages/{turn.question_id}/siblings/"

    fragment, page = (by.get(address).content.decode() for by in (htmx, client))

    for body in (fragment, page):
        assert f'action="{address}"' in body
        assert "One &lt;b&gt;?</textarea>" in body
    assert "<html" not in fragment
    assert "One." in page


def test_a_long_way_up_the_form_is_on_the_page_all_the_same(conversation, client):
    turns = [say(conversation, f"Question {n}", f"Answer {n}") for n in range(40)]

    page = client.get(f"/messages/{turns[3].question_id}/siblings/").content.decode()

    assert f'action="/messages/{turns[3].question_id}/siblings/"' in page


def test_an_edit_that_is_sent_twice_is_one_turn(conversation, edit):
    turn = say(conversation, "One?", "One.")
    client_id = uuid.uuid4()

    edit(turn, "One, then?", client_id)
    edit(turn, "One, then?", client_id)

    assert Turn.objects.count() == 2


def test_another_text_under_the_same_client_id_is_refused_and_kept(conversation, edit):
    turn = say(conversation, "One?", "One.")
    client_id = uuid.uuid4()
    edit(turn, "One, then?", client_id)

    response = edit(turn, "One, or two?", client_id)

    assert response.status_code == 409
    assert "One, or two?</textarea>" in response.content.decode()


def test_while_an_answer_is_written_an_edit_is_refused_and_its_text_is_kept(conversation, edit, htmx):
    turn = say(conversation, "One?", "One.")
    say(conversation, "Two?")

    plain, partial = edit(turn, "One, then?"), edit(turn, "One, then?", by=htmx)

    assert (plain.status_code, partial.status_code) == (409, 409)
    assert BUSY in plain.content.decode()
    assert "One, then?</textarea>" in plain.content.decode()
    assert f'hx-target="#edit-error-{turn.question_id}"' in partial.content.decode()
    assert BUSY in partial.content.decode()
    assert Turn.objects.count() == 2


@pytest.mark.parametrize(("text", "words"), [("", "Write something first."), ("x" * 400_001, "This is too long")])
def test_an_edit_that_cannot_be_sent_says_why_and_is_kept(conversation, edit, text, words):
    turn = say(conversation, "One?", "One.")

    response = edit(turn, text)

    assert response.status_code == 422
    assert words in response.content.decode()
    assert f"\n{text}</textarea>" in response.content.decode()


def test_claude_is_sent_the_branch_and_nothing_that_stands_beside_it(conversation, edit):
    say(conversation, "One?", "One.")
    second = say(conversation, "Two?", "Two.")
    say(conversation, "Three?", "Three.")

    edit(second, "Two, then?")

    sent = [block["text"] for m in request_for(Turn.objects.live().get()).messages for block in m["content"]]
    assert sent == ["One?", "One.", "Two, then?"]


# --- An answer tried again


def test_another_answer_stands_beside_the_first_one(conversation, again, shown, client):
    turn = say(conversation, "One?", "One.")

    again(turn)
    new = end("Uno.")

    assert shown() == ["One?", "Uno."]
    assert place(client.get(f"/conversations/{conversation.id}/"), new.reply_id) == "2/2"
    assert Message.objects.get(id=turn.reply_id).text == "One."


def test_an_answer_in_the_middle_can_be_tried_again(conversation, again, shown):
    turn = say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")

    again(turn)
    end("Uno.")

    assert shown() == ["One?", "Uno."]


def test_pressing_twice_is_one_answer_and_pressing_later_is_one_more(conversation, again):
    turn = say(conversation, "One?", "One.")

    again(turn)
    again(turn)
    end("Uno.")
    again(turn)
    first = Turn.objects.count()
    again(turn, seen=2)

    assert (first, Turn.objects.count()) == (2, 3)


def test_it_is_asked_of_the_same_model_with_the_same_effort(conversation, again):
    turn = say(conversation, "One?", "One.", model=HAIKU, effort="deep")
    say(conversation, "Two?", "Two.", model=OPUS, effort="quick")

    again(turn)

    new = Turn.objects.live().get()
    assert (new.model, new.effort) == (HAIKU, "deep")


def test_another_model_can_be_asked_and_a_double_click_on_it_asks_once(conversation, again):
    turn = say(conversation, "One?", "One.", model=SONNET)

    again(turn, model=OPUS)
    again(turn, model=OPUS)

    assert [turn.model for turn in Turn.objects.order_by("created_at")] == [SONNET, OPUS]


def test_the_models_are_listed_with_their_prices(conversation, client, htmx):
    turn = say(conversation, "One?", "One.", model=SONNET)
    address = f"/turns/{turn.id}/retries/?seen=1"

    fragment, page = (by.get(address).content.decode() for by in (htmx, client))

    for body in (fragment, page):
        assert body.count('name="model"') >= 3
        assert re.search(r"Claude Opus[^<]*<.*?\$[\d.]+ in, \$[\d.]+ out per million", body, re.DOTALL)
        assert re.search(r"Sonnet 5.5 <span[^>]*>wrote this answer", body)
    assert "<html" not in fragment


def test_a_model_that_is_not_offered_is_refused_with_words(conversation, again, htmx):
    turn = say(conversation, "One?", "One.")

    response = again(turn, by=htmx, model="claude-of-tomorrow")

    assert response.status_code == 422
    assert "not offered" in composer_error(response.content.decode())
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("way", ["edit", "continue", "retry"])
def test_a_chat_whose_model_has_gone_goes_on_only_with_another_one(conversation, browse, alice, htmx, settings, way):
    turn = say(conversation, "One?", "One.", model=OPUS)
    conversation.model = OPUS
    conversation.save()
    settings.MODELS = [SONNET]
    url, fields = {
        "edit": (f"/messages/{turn.question_id}/siblings/", {"text": "Two?", "client_id": uuid.uuid4()}),
        "continue": (f"/conversations/{conversation.id}/messages/", {"text": "Go on.", "after": turn.reply_id}),
        "retry": (f"/turns/{turn.id}/retries/", {}),
    }[way]

    response = htmx.post(url, fields)

    assert response.status_code == 422
    assert "This model is not offered any more. Choose another one." in response.content.decode()
    assert (Turn.objects.count(), UsageRecord.objects.count()) == (1, 0)


def test_an_answer_of_a_model_that_has_gone_is_tried_again_with_the_one_of_the_chat(conversation, again):
    turn = say(conversation, "One?", "One.", model="claude-of-yesterday")
    say(conversation, "Two?", "Two.", model=SONNET)

    again(turn)

    assert Turn.objects.live().get().model == SONNET


def test_while_an_answer_is_written_no_other_one_is_begun(conversation, again, htmx):
    turn = say(conversation, "One?", "One.")
    say(conversation, "Two?")

    response = again(turn, by=htmx)

    assert response.status_code == 409
    assert BUSY in composer_error(response.content.decode())


# --- The way back


def test_a_message_with_siblings_says_which_one_it_is_and_leads_to_the_others(conversation, again, client):
    first = say(conversation, "One?", "One.")
    again(first)
    second = end("Uno.")
    again(first, seen=2)
    third = end("Un.")

    page = client.get(f"/conversations/{conversation.id}/")
    client.post(f"/messages/{second.reply_id}/selection/")
    middle = client.get(f"/conversations/{conversation.id}/")

    assert place(page, third.reply_id) == "3/3"
    assert place(middle, second.reply_id) == "2/3"
    body = middle.content.decode()
    assert 'aria-label="Answer 2 of 3"' in body
    for sibling in (first, third):
        assert f'formaction="/messages/{sibling.reply_id}/selection/"' in body


def test_who_has_no_siblings_has_no_way_to_them(conversation, client):
    turn = say(conversation, "One?", "One.")

    page = client.get(f"/conversations/{conversation.id}/")

    assert place(page, turn.question_id) == place(page, turn.reply_id) == ""


def test_going_back_shows_the_old_branch_to_its_newest_end_and_stays_there(conversation, edit, client, shown):
    first = say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")
    edit(first, "Eins?")
    end("Eins.")

    response = client.post(f"/messages/{first.question_id}/selection/")

    assert response.url == f"/conversations/{conversation.id}/?message={first.question_id}#message-{first.question_id}"
    assert shown() == shown(f"?message={first.question_id}") == ["One?", "One.", "Two?", "Two."]
    assert 'id="aside"' not in client.get(response.url).content.decode()


def test_of_two_branches_below_a_message_the_one_written_last_is_shown(conversation, edit, client, shown):
    first = say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")
    client.post(f"/turns/{first.id}/retries/?seen=1")
    end("Uno.")
    client.post(f"/messages/{first.reply_id}/selection/")
    say(Conversation.objects.get(), "Three?", "Three.")
    edit(first, "Eins?")
    end("Eins.")

    client.post(f"/messages/{first.question_id}/selection/")

    assert shown() == ["One?", "One.", "Two?", "Two.", "Three?", "Three."]


def test_who_only_looks_does_not_make_the_chat_newer(conversation, again, client):
    turn = say(conversation, "One?", "One.")
    again(turn)
    end("Uno.")
    before = Conversation.objects.get().updated_at

    client.post(f"/messages/{turn.reply_id}/selection/")

    assert Conversation.objects.get().updated_at == before


def test_htmx_gets_what_stands_below_the_fork_for_the_place_of_what_was_shown(conversation, again, htmx):
    say(conversation, "One?", "One.")
    turn = say(conversation, "Two?", "Two.")
    say(conversation, "Three?", "Three.")
    again(turn)
    new = end("Due.")

    response = htmx.post(f"/messages/{turn.reply_id}/selection/", {"shown": new.reply_id})

    body = response.content.decode()
    assert f'<hx-partial hx-target="#message-{new.reply_id}" hx-swap="outerHTML">' in body
    assert texts(response) == ["Two.", "Three?", "Three."]
    assert "Answer 1 of 2 is shown." in body


@pytest.mark.parametrize("wrong", ["", "nonsense", str(uuid.uuid4())])
def test_who_says_that_something_else_was_shown_gets_the_page(conversation, again, htmx, wrong):
    turn = say(conversation, "One?", "One.")
    again(turn)
    end("Uno.")

    response = htmx.post(f"/messages/{turn.reply_id}/selection/", {"shown": wrong})

    assert response.headers["HX-Redirect"].endswith(f"#message-{turn.reply_id}")


def test_while_an_answer_is_written_the_others_can_be_looked_at_and_it_can_be_stopped(
    conversation, again, client, htmx
):
    turn = say(conversation, "One?", "One.")
    again(turn)
    live = Turn.objects.live().get()

    plain = client.post(f"/messages/{turn.reply_id}/selection/")
    partial = htmx.post(f"/messages/{turn.reply_id}/selection/", {"shown": live.reply_id})

    assert plain.url == partial.headers["HX-Redirect"]
    page = client.get(plain.url)
    body = page.content.decode()
    assert texts(page) == ["One?", "One."]
    assert "You are looking at another branch of this chat." in body
    assert f'formaction="/turns/{live.id}/stop/"' in body
    assert 'id="aside"' in body
    assert Conversation.objects.get().active_leaf_id == live.reply_id


def test_a_link_to_a_message_of_another_branch_shows_it_and_changes_nothing(conversation, again, client, shown):
    turn = say(conversation, "One?", "One.")
    again(turn)
    end("Uno.")

    page = client.get(f"/conversations/{conversation.id}/?message={turn.reply_id}")

    assert texts(page) == ["One?", "One."]
    assert "You are looking at another branch of this chat." in page.content.decode()
    assert f'formaction="/messages/{turn.reply_id}/selection/"' in page.content.decode()
    assert shown() == ["One?", "Uno."]


# --- What follows what


def test_continue_goes_on_after_its_answer_whatever_is_shown_elsewhere(conversation, again, client, send, shown):
    cut = say(conversation, "One?", "One, and", stop_reason="max_tokens")
    page = client.get(f"/conversations/{conversation.id}/").content.decode()
    again(cut)
    end("Uno.")

    assert f'name="after" value="{cut.reply_id}"' in page
    send("Please continue", after=cut.reply_id)
    end("two.")

    assert shown() == ["One?", "One, and", "Please continue", "two."]


def test_a_question_from_a_tab_that_is_behind_follows_what_its_writer_sees(conversation, send, shown, client):
    first = say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")

    send("And from here?", after=first.reply_id)
    new = end("From here.")

    assert shown() == ["One?", "One.", "And from here?", "From here."]
    assert place(client.get(f"/conversations/{conversation.id}/"), new.question_id) == "2/2"


def test_nothing_can_follow_a_message_of_another_chat(alice, conversation, send):
    other = say(alice.conversations.create(model=SONNET), "One?", "One.")

    response = send("And?", after=other.reply_id)

    assert response.status_code == 404
    assert not conversation.messages.exists()


# --- Strangers


def test_a_stranger_finds_nothing_and_changes_nothing(conversation, browse, bob):
    turn = say(conversation, "One?", "One.")
    client = browse(bob)
    leaf = conversation.active_leaf_id

    for address in (
        f"/messages/{turn.question_id}/siblings/",
        f"/messages/{turn.question_id}/selection/",
        f"/turns/{turn.id}/retries/",
    ):
        assert client.post(address, {"text": "Mine", "client_id": uuid.uuid4()}).status_code == 404
        assert client.get(address).status_code in (404, 405)
    assert conversation.messages.count() == 2
    assert Conversation.objects.get().active_leaf_id == leaf


def test_an_answer_cannot_be_edited(conversation, client):
    turn = say(conversation, "One?", "One.")

    address = f"/messages/{turn.reply_id}/siblings/"

    assert client.get(address).status_code == client.post(address, {"text": "Two."}).status_code == 404


# --- Many


def test_fifty_siblings_take_no_more_queries_than_two(conversation, again, client, django_assert_num_queries):
    turn = say(conversation, "One?", "One.")
    again(turn)
    last = end("One.")
    address = f"/conversations/{conversation.id}/"
    with CountQueries() as few:
        client.get(address)

    for number in range(2, 50):
        again(turn, seen=number)
        last = end("One.")
    with CountQueries() as many:
        page = client.get(address)

    assert place(page, last.reply_id) == "50/50"
    assert many.count == few.count
    assert len(page.content) < 60_000


class CountQueries:
    def __enter__(self):
        connection.force_debug_cursor, self._before = True, len(connection.queries)
        return self

    def __exit__(self, *exc_info):
        connection.force_debug_cursor = False
        self.count = len(connection.queries) - self._before


# --- At the same instant


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("unheard")
def test_edits_at_the_same_instant_are_one_turn_and_the_others_are_told(conversation, browse, alice):
    turn = say(conversation, "One?", "One.")
    same = uuid.uuid4()
    bells = [same, same, same, uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]

    statuses = together(
        lambda client, client_id: (
            client.post(f"/messages/{turn.question_id}/siblings/", {"text": "Two?", "client_id": client_id}).status_code
        ),
        [(browse(alice), client_id) for client_id in bells],
    )

    assert set(statuses) <= {302, 409}
    assert Turn.objects.live().count() == 1
    assert conversation.messages.count() == 4
    assert Conversation.objects.get().active_leaf_id == Turn.objects.live().get().reply_id
    browse(alice).post(f"/turns/{Turn.objects.live().get().id}/stop/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("unheard")
def test_whoever_selects_while_another_tab_asks_does_not_hide_the_answer_that_is_written(conversation, browse, alice):
    turn = say(conversation, "One?", "One.")
    conversation.retry_turn(turn.question, uuid.uuid4())
    end("Uno.")
    presses = [
        (browse(alice), f"/messages/{turn.reply_id}/selection/"),
        (browse(alice), f"/turns/{turn.id}/retries/?seen=2"),
        (browse(alice), f"/messages/{turn.reply_id}/selection/"),
    ]

    together(lambda client, address: client.post(address), presses)

    live = Turn.objects.live().get()
    assert Conversation.objects.get().active_leaf_id == live.reply_id
    browse(alice).post(f"/turns/{live.id}/stop/")


def together(press, arguments: list) -> list:
    barrier = threading.Barrier(len(arguments))

    def pressed(each):
        try:
            barrier.wait(10)
            return press(*each)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(pressed, arguments))


# --- Money


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_every_sibling_is_a_call_of_its_own_and_none_is_billed_more_than_was_held(
    ask, browse, alice, sandbox, conversation
):
    client = browse(alice)
    sandbox.enqueue(times=12, tokens=60)
    turns = [ask("One?"), ask("Two? " * 30), ask("Three?")]

    for number, turn in enumerate([turns[1], turns[0], turns[2], turns[1]]):
        client.post(f"/messages/{turn.question_id}/siblings/", {"text": f"Differently {number}? " * (1 + 20 * number)})
        made = over(Turn.objects.latest("created_at"))
        client.post(f"/turns/{made.id}/retries/?seen=1", {"model": OPUS if number % 2 else ""})
        again = over(Turn.objects.latest("created_at"))
        assert bound_of(request_for(again), again) >= again.usage_records.get().prompt_tokens

    sandbox.wait_until_idle()
    records = UsageRecord.objects.filter(purpose="reply")
    assert records.count() == Turn.objects.count() == 11
    for record in records:
        invoiced = next(line for line in sandbox.invoice if line.message_id == record.message_id)
        assert record.cost == invoiced.cost_nanos <= record.held
        assert record.prompt_tokens <= record.input_bound


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_a_chat_is_named_once_whatever_becomes_of_its_first_question(ask, browse, alice, sandbox):
    turn = ask("How do tides work in the North Sea?")
    wait_until(lambda: Conversation.objects.get().title == "Tides work North Sea", "no title was written")

    browse(alice).post(f"/messages/{turn.question_id}/siblings/", {"text": "And volcanoes?"})
    over(Turn.objects.latest("created_at"))
    wait_until(lambda: not Turn.objects.live().exists(), "a turn is live")
    sandbox.wait_until_idle()

    assert UsageRecord.objects.filter(purpose="title").count() == 1
    assert Conversation.objects.get().title == "Tides work North Sea"
