"""One message waits while an answer is written, and is sent by itself when that is done: by the server, once."""

import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from chat import catalogue, doorbell, next_messages, spend, submission
from chat.models import Draft, NextMessage, Turn, UsageRecord
from chat.sweeper import Sweeper
from chat.views.turns import settled
from tests.attached import CODE
from tests.conftest import over, wait_until
from tests.test_crashes import doomed, expire, ring  # noqa: F401  a fixture
from tests.test_drafts import box

LONG = {"tokens": 400, "rate": 100}
HTMX = {"HX-Request": "true"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def nobody_hears(monkeypatch):
    """The bell is rung in vain: the test plays the workers itself."""
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


@pytest.fixture
def running(send, nobody_hears) -> Iterator[Turn]:
    """An answer that is being written, by a worker that the test plays."""
    send("First")
    yield Turn.objects.claim(Turn.objects.get().id)
    for turn in Turn.objects.live():
        end(turn, "stopped")


@pytest.fixture
def queue(send):
    """`queue("Second")`: Alice presses Send while an answer is being written."""
    return lambda text="Second", client_id=None, **fields: send(text, client_id, composer="1", **fields)


@pytest.fixture
def url(conversation):
    return f"/conversations/{conversation.id}/next/"


def end(turn: Turn, state: str) -> None:
    """The worker ends the turn and dies before it has done anything else."""
    for record in turn.usage_records.filter(state="held"):
        spend.void(record)
    Turn.objects.filter(id=turn.id).update(state=state, lease_until=None)


def waiting() -> str:
    """The client id of the message that waits, as the form on its page says it."""
    return str(NextMessage.objects.get().client_id)


def shown(client, conversation) -> str:
    """What stands above the composer: the words of #next."""
    page = client.get(f"/conversations/{conversation.id}/").content.decode()
    part = re.search(r'<div class="next" id="next">(.*?)<div class="composer__box">', page, re.DOTALL)[1]
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


# While an answer is written ------------------------------------------------------------------------


def test_a_message_that_is_sent_meanwhile_waits_and_is_shown(running, queue, browse, alice, conversation):
    response = queue("And then?")

    assert response.status_code == 302
    assert Turn.objects.count() == 1
    assert shown(browse(alice), conversation) == "Next And then? Edit Remove"


def test_a_tab_that_is_behind_gets_the_answer_that_its_message_waits_for(send, queue, nobody_hears, conversation):
    first = asked(send, "Before")
    end(first, "done")
    live = asked(send, "In another tab")

    behind = queue("And then?", htmx=True, after=first.reply_id).content.decode()
    up_to_date = queue("And then?", waiting(), htmx=True, after=live.reply_id).content.decode()

    assert f'id="message-{live.question_id}"' in behind
    assert f"/turns/{live.id}/stream/" in behind
    assert f"/turns/{live.id}/stop/" in behind
    assert f'id="message-{first.reply_id}"' not in behind
    assert 'id="message-' not in up_to_date
    end(live, "stopped")


def test_a_tab_that_shows_another_branch_is_loaded_again(send, queue, nobody_hears, browse, alice, conversation):
    first = asked(send, "Before")
    end(first, "done")
    browse(alice).post(f"/messages/{first.question_id}/siblings/", {"text": "Before, in other words"})
    live = Turn.objects.live().get()

    response = queue("And then?", htmx=True, after=first.reply_id)

    assert response.headers["HX-Redirect"] == f"/conversations/{conversation.id}/"
    assert NextMessage.objects.get().text == "And then?"
    end(live, "stopped")


def asked(send, text: str) -> Turn:
    send(text)
    return Turn.objects.latest("created_at")


def test_the_draft_goes_with_it(running, queue, conversation, alice):
    Draft.objects.create(user=alice, conversation=conversation, text="And th")

    queue("And then?")

    assert not Draft.objects.exists()


def test_a_double_click_is_one_waiting_message(running, queue):
    page = uuid.uuid4()

    first, again = queue("Second", page), queue("Second", page)

    assert first.status_code == again.status_code == 302
    assert NextMessage.objects.count() == 1


def test_a_second_one_is_refused_with_words_and_its_text_kept(running, queue, browse, alice):
    queue("Second")

    response = queue("Third")

    page = response.content.decode()
    assert response.status_code == 409
    assert "One message waits already. Your text stays" in page
    assert "Third</textarea>" in page
    assert NextMessage.objects.get().text == "Second"


def test_only_the_composer_lets_a_message_wait(running, send):
    response = send("Please continue exactly where you stopped.")

    assert response.status_code == 409
    assert not NextMessage.objects.exists()


def test_edit_brings_it_back_above_what_stands_in_the_box(running, queue, browse, alice, conversation, url):
    queue("Second")

    browse(alice).post(url + "withdrawal/", {"text": "Third", "composer": "1", "waiting": waiting()})

    assert not NextMessage.objects.exists()
    assert box(browse(alice), f"/conversations/{conversation.id}/") == "Second\n\nThird"


def test_edit_twice_brings_it_back_once(running, queue, browse, alice, conversation, url):
    queue("Second")
    shown_id = waiting()

    for _ in range(2):
        browse(alice).post(url + "withdrawal/", {"text": "", "waiting": shown_id})

    assert box(browse(alice), f"/conversations/{conversation.id}/") == "Second"


def test_remove_removes_it(running, queue, browse, alice, conversation, url):
    queue("Second")

    browse(alice).post(url + "deletion/", {"waiting": waiting()})

    assert not NextMessage.objects.exists()
    assert shown(browse(alice), conversation) == ""


def test_the_page_names_the_message_that_waits(running, queue, browse, alice, conversation):
    queue("Second")

    page = browse(alice).get(f"/conversations/{conversation.id}/").content.decode()

    assert re.search(r'name="waiting" value="([^"]+)"', page)[1] == waiting()


@pytest.mark.parametrize("press", ["withdrawal/", "deletion/"])
def test_an_old_tab_neither_edits_nor_removes_another_message_than_it_shows(
    running, queue, browse, alice, conversation, url, press
):
    queue("Second")
    old_tab = waiting()
    browse(alice).post(url + "withdrawal/", {"text": "", "waiting": old_tab})
    queue("A long text of the other tab")

    answer = browse(alice, **HTMX).post(url + press, {"text": "", "waiting": old_tab}).content.decode()

    assert NextMessage.objects.get().text == "A long text of the other tab"
    assert "It did not wait any more" in answer
    assert "A long text of the other tab" in answer
    assert "removed." not in answer.replace("edited or removed.", "")


@pytest.mark.parametrize("press", ["withdrawal/", "deletion/"])
@pytest.mark.parametrize("htmx", [True, False])
def test_edit_and_remove_that_come_too_late_say_so(running, queue, browse, alice, conversation, url, press, htmx):
    queue("Second")
    shown_id = waiting()
    end(running, "done")
    next_messages.go_on(conversation.id)
    client = browse(alice, **(HTMX if htmx else {}))

    answer = client.post(url + press, {"text": "Half a thought", "waiting": shown_id})

    page = answer.content.decode()
    assert answer.status_code == (200 if htmx else 409)
    assert "Too late: it was sent already" in page
    assert "is removed" not in page
    assert htmx or ">\nHalf a thought</textarea>" in page
    end(Turn.objects.get(asked_after=running), "stopped")


def test_remove_while_it_is_sent_says_what_became_of_it(running, queue, browse, alice, conversation, url, monkeypatch):
    queue("Second")
    shown_id, said = waiting(), []
    end(running, "done")
    ask = submission.ask

    def press() -> None:
        said.append(browse(alice, **HTMX).post(url + "deletion/", {"waiting": shown_id}).content.decode())
        connection.close()

    remove = threading.Thread(target=press)

    def while_remove_is_pressed(*args, **kwargs):
        remove.start()
        remove.join(1)  # for nothing: it waits for us
        return ask(*args, **kwargs)

    monkeypatch.setattr(submission, "ask", while_remove_is_pressed)

    next_messages.go_on(conversation.id)
    remove.join()

    assert Turn.objects.filter(asked_after=running).count() == 1
    assert "Too late: it was sent already" in said[0]
    end(Turn.objects.get(asked_after=running), "stopped")


def test_a_request_that_is_repeated_after_edit_or_remove_sends_nothing(
    running, queue, browse, alice, conversation, url
):
    for press in ("withdrawal/", "deletion/"):
        client_id = uuid.uuid4()
        queue("Second", client_id)
        browse(alice).post(url + press, {"text": "", "client_id": uuid.uuid4(), "waiting": client_id})

        again = queue("Second", client_id)

        assert again.status_code == 409
        assert "This message was taken back before it was sent" in again.content.decode()
        assert not NextMessage.objects.exists()


def test_nor_does_it_when_the_answer_has_ended_meanwhile(running, queue, browse, alice, url):
    client_id = uuid.uuid4()
    queue("Second", client_id)
    browse(alice).post(url + "withdrawal/", {"text": "", "waiting": client_id})
    end(running, "done")

    again = queue("Second", client_id)

    assert again.status_code == 409
    assert Turn.objects.count() == 1
    assert Draft.objects.get().text == "Second"


def test_what_was_taken_back_can_be_sent_from_the_box(running, queue, browse, alice, conversation, url):
    queue("Second")
    page = uuid.uuid4()
    browse(alice).post(url + "withdrawal/", {"text": "", "client_id": page, "waiting": waiting()})

    queue("Second, in other words", page)

    assert NextMessage.objects.get().text == "Second, in other words"
    assert not Draft.objects.exists()


def test_another_text_with_the_id_of_the_waiting_one_is_not_thrown_away(running, queue):
    client_id = uuid.uuid4()
    queue("Second", client_id)

    again = queue("Second, and more", client_id)

    assert again.status_code == 409
    assert "Second, and more</textarea>" in again.content.decode()
    assert NextMessage.objects.get().text == "Second"


def test_a_message_that_waits_leaves_the_text_of_another_device(running, queue, browse, alice, conversation):
    Draft.objects.create(user=alice, conversation=conversation, text="Of the phone", client_id=uuid.uuid4())

    queue("Second")

    assert box(browse(alice), f"/conversations/{conversation.id}/") == "Of the phone"


def test_edit_leaves_the_text_of_another_device(running, queue, browse, alice, conversation, url):
    page = uuid.uuid4()
    queue("Second")
    Draft.objects.create(user=alice, conversation=conversation, text="Of the phone", client_id=uuid.uuid4())

    browse(alice).post(url + "withdrawal/", {"text": "Third", "client_id": page, "waiting": waiting()})

    assert set(Draft.objects.values_list("text", flat=True)) == {"Of the phone", "Second\n\nThird"}


@pytest.mark.parametrize("press", ["withdrawal/", "deletion/"])
def test_without_javascript_text_and_files_in_the_box_survive_edit_and_remove(
    running, queue, browse, alice, conversation, url, press
):
    queue("Second")
    fields = {"text": "Third", "client_id": uuid.uuid4(), "waiting": waiting()}

    browse(alice).post(url + press, {**fields, "files": SimpleUploadedFile("answer.py", CODE)})

    page = browse(alice).get(f"/conversations/{conversation.id}/").content.decode()
    assert box(browse(alice), f"/conversations/{conversation.id}/").endswith("Third")
    assert 'data-file="answer.py"' in page


def test_a_stranger_can_neither_see_nor_move_it(running, queue, browse, bob, url):
    queue("Second")

    answers = [browse(bob).get(url), browse(bob).post(url + "withdrawal/"), browse(bob).post(url + "deletion/")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert NextMessage.objects.count() == 1


# When it is done -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_it_is_sent_when_the_answer_is_done_with_what_was_chosen_then(send, queue, sandbox, conversation):
    sandbox.enqueue(**LONG, match="First")
    send("First", model="claude-sonnet-5-5")
    client_id = uuid.uuid4()

    queue("Second", client_id, model="claude-haiku-5-5", effort="quick", search="1")

    wait_until(lambda: Turn.objects.count() == 2, "the next message was not sent")
    first, second = (over(turn) for turn in Turn.objects.order_by("created_at"))
    assert (second.state, second.client_id) == (Turn.State.DONE, client_id)
    assert (second.model, second.effort, second.conversation.max_searches) == ("claude-haiku-5-5", "quick", 3)
    assert second.question.parent_id == first.reply_id
    assert second.asked_after == first
    assert not NextMessage.objects.exists()


@pytest.mark.usefixtures("worker")
def test_whoever_hears_that_the_answer_is_done_gets_the_next_question_with_it(send, queue, sandbox, alice):
    sandbox.enqueue(**LONG, match="First")
    sandbox.enqueue(say="The second answer.", match="Second")
    send("First")
    first = Turn.objects.get()
    queue("Second")
    wait_until(lambda: Turn.objects.count() == 2, "the next message was not sent")
    second = over(Turn.objects.latest("created_at"))

    page = settled(over(first), "token")

    assert f'id="message-{second.question_id}"' in page
    assert "The second answer." in page
    assert "Edit what is sent next" not in page


def test_without_money_left_the_refusal_stands_in_the_thread(running, queue, conversation, limit_nano, alice):
    queue("Second")
    limit_nano(alice, 1_000)
    end(running, "done")

    next_messages.go_on(conversation.id)

    second = Turn.objects.get(asked_after=running)
    assert (second.state, second.error, second.question.text) == (Turn.State.FAILED, "over_budget", "Second")
    assert not NextMessage.objects.exists()


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted"])
def test_after_an_answer_that_did_not_end_well_it_is_held_back_with_words(
    running, queue, browse, alice, conversation, state
):
    queue("Second")
    end(running, state)

    next_messages.go_on(conversation.id)

    assert Turn.objects.count() == 1
    words = {"stopped": "was stopped", "failed": "failed", "interrupted": "was interrupted"}[state]
    assert shown(browse(alice), conversation) == f"Not sent, because the answer before it {words}. Second Edit Remove"


def test_a_model_that_was_taken_away_meanwhile_is_not_asked(running, queue, browse, alice, conversation, settings):
    queue("Second")
    settings.MODELS = [next(model.id for model in catalogue.offered() if model.id != conversation.model)]
    end(running, "done")

    next_messages.go_on(conversation.id)

    assert Turn.objects.count() == 1
    assert "because its model is not offered any more" in shown(browse(alice), conversation)


def test_what_is_held_back_is_brought_back_with_the_reason(running, queue, browse, alice, conversation, url):
    queue("Second")
    end(running, "stopped")
    next_messages.go_on(conversation.id)

    answer = browse(alice, **HTMX).post(url + "withdrawal/", {"text": "", "waiting": waiting()}).content.decode()

    assert "Not sent, because the answer before it was stopped. It is back in the box." in answer
    assert ">\nSecond</pre>" in answer
    assert Draft.objects.get().text == "Second"


@pytest.mark.usefixtures("worker")
def test_stop_holds_back_what_was_to_follow(send, queue, sandbox, browse, alice, conversation):
    sandbox.enqueue(tokens=4000, rate=50)
    send("First")
    turn = Turn.objects.get()
    wait_until(lambda: Turn.objects.filter(state="running").exists(), "no worker took it")
    queue("Second")

    browse(alice).post(f"/turns/{turn.id}/stop/")

    over(turn)
    wait_until(lambda: NextMessage.objects.filter(held_back="stopped").exists(), "it was not held back")
    assert Turn.objects.count() == 1


def test_a_question_that_is_stopped_while_it_waits_for_a_worker_holds_it_back_at_once(
    send, nobody_hears, queue, browse, alice
):
    send("First")
    queue("Second")

    browse(alice).post(f"/turns/{Turn.objects.get().id}/stop/")

    assert NextMessage.objects.get().held_back == "stopped"


# When somebody dies --------------------------------------------------------------------------------


def test_a_worker_that_dies_between_the_end_and_the_next_message_is_stood_in_for(running, queue, conversation):
    queue("Second")
    end(running, "done")

    Sweeper().sweep()
    Sweeper().sweep()

    [second] = Turn.objects.exclude(id=running.id)
    assert second.question.text == "Second"
    assert second.asked_after_id == running.id
    assert not NextMessage.objects.exists()


def test_a_worker_killed_right_after_the_end_of_an_answer_leaves_the_next_message_to_the_sweeper(
    doomed,  # noqa: F811  the fixture
    send,
    queue,
    nobody_hears,
    sandbox,
    monkeypatch,
):
    monkeypatch.setenv("SANDBOX", "True")
    monkeypatch.setenv("FAIL_AT", "after_commit")
    send("First")
    first = Turn.objects.get()
    queue("Second")
    worker = doomed()
    ring(first)
    worker.wait(60)
    waiting_still = NextMessage.objects.filter(held_back="", waits_for__state="done").count()

    Sweeper().sweep()

    second = Turn.objects.get(asked_after=first)
    assert waiting_still == 1
    assert second.question.text == "Second"
    end(second, "stopped")


def test_a_worker_that_dies_in_mid_answer_leaves_it_to_the_person(running, queue, conversation):
    queue("Second")
    Turn.objects.filter(id=running.id).update(attempt=5)
    expire(running)

    Sweeper().sweep()

    assert NextMessage.objects.get().held_back == "interrupted"


def test_worker_and_sweeper_at_once_send_it_once(running, queue, conversation):
    queue("Second")
    end(running, "done")

    def go_on(_) -> None:
        try:
            next_messages.go_on(conversation.id)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(go_on, range(6)))

    assert Turn.objects.count() == 2
    assert UsageRecord.objects.exclude(turn=running).count() == 1


def test_a_page_finds_out_what_became_of_it_after_its_worker_died(running, queue, browse, alice, url):
    queue("Second")
    end(running, "done")
    before = browse(alice).get(f"{url}?after={running.id}")
    Sweeper().sweep()

    after = browse(alice).get(f"{url}?after={running.id}")

    second = Turn.objects.latest("created_at")
    assert before.status_code == 204
    assert f'id="message-{second.question_id}"' in after.content.decode()


@pytest.mark.parametrize("after", ["", "x", "' OR 1=1", str(uuid.uuid4())])
def test_whatever_a_page_asks_about_is_answered(running, browse, alice, url, after):
    assert browse(alice).get(url, {"after": after}).status_code == 200


def test_a_message_that_comes_as_the_answer_ends_is_asked_at_once(running, queue, monkeypatch):
    """The answer ends between the look at it and the queue."""
    queue_it = next_messages.queue

    def too_late(*args, **kwargs):
        end(running, "done")
        return queue_it(*args, **kwargs)

    monkeypatch.setattr(next_messages, "queue", too_late)

    queue("Second")

    assert [turn.question.text for turn in Turn.objects.order_by("created_at")] == ["First", "Second"]
    assert not NextMessage.objects.exists()


def test_a_deleted_conversation_takes_it_along(running, queue, browse, alice, conversation):
    queue("Second")

    browse(alice).post(f"/conversations/{conversation.id}/deletion/")
    Sweeper().sweep()

    assert not NextMessage.objects.exists()
    assert not Turn.objects.exists()
