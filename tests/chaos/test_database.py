"""C10 to C13: the database is away, a commit of which nobody knows whether it happened, a locked SQLite."""

import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from chat.models import LedgerEntry, Turn, UsageRecord
from chat.sweeper import Sweeper
from tests import environment
from tests.chaos.conftest import begun, ended
from tests.chaos.people import Watcher
from tests.conftest import wait_until
from tests.pages import composer_error
from tests.servers import postgres_crashed

on_postgres = pytest.mark.skipif(not environment.on_postgres, reason="SQLite is a file: it cannot be away")
on_sqlite = pytest.mark.skipif(environment.on_postgres, reason="only SQLite has one lock for all who write")

WORDS = "Tally cannot reach its data right now, so this was not saved. Your text is still here: try again shortly."
# In seconds; leases are 3 s here.
SHORTER_THAN_A_LEASE, LONGER_THAN_A_LEASE = 1.5, 10

SAVES_THE_QUESTION = (b'INSERT INTO "chat_turn"', b"COMMIT")
SAVES_THAT_IT_IS_SENT = (b"SET \"state\" = 'sent'", b"COMMIT")
SAVES_THE_ANSWER = (b"SET \"state\" = 'done'", b"COMMIT")


def says(sandbox, *, seconds: float) -> str:
    """Script an answer that takes at least so long, and return its text."""
    words = " ".join(f"word{number}" for number in range(1 + round(20 * seconds)))
    sandbox.enqueue(say=words, rate=40)  # a word is two tokens or more
    return words


@pytest.fixture
def once(whole, posts):
    """`once(turn, TEXT, tab)`: that answer is whole and exact, and it was asked and paid for once."""

    def once(turn: Turn, text: str, *tabs: Watcher) -> None:
        whole(turn, text, *tabs)
        record = turn.usage_records.get()
        holds = record.entries.filter(kind="hold").count()
        assert holds
        assert [record.entries.filter(kind=kind).count() for kind in ("release", "charge")] == [holds, holds]
        assert posts() == 1

    return once


@contextmanager
def away(product, seconds: float):
    """The database is not there for the block, and for at least so many seconds."""
    began = time.monotonic()
    product.database.away()
    yield
    time.sleep(max(0, began + seconds - time.monotonic()))
    product.database.heal()


@on_postgres
@pytest.mark.parametrize("seconds", [SHORTER_THAN_A_LEASE, LONGER_THAN_A_LEASE])
def test_c10_a_stream_goes_on_while_the_database_is_away(product, me, conversation, sandbox, once, seconds):
    text = says(sandbox, seconds=seconds + 4)
    turn = me.ask("Tell me a long story", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    with away(product, seconds):
        seen = len(tab.events)
        wait_until(lambda: len(tab.events) > seen + 5, "the stream stood still")
    tab.wait()

    once(turn, text, tab)
    assert tab.breaks == 0


@on_postgres
@pytest.mark.smoke
def test_c10_what_is_typed_while_the_database_is_away_is_kept_and_sent_later(product, me, conversation, sandbox, once):
    text, client_id = says(sandbox, seconds=0), uuid.uuid4()
    address = f"/conversations/{conversation.id}/"
    me.http.get(address)

    with away(product, 0):
        page = me.http.get(address)
        refused = me.send("My question", to=conversation, client_id=client_id)
        fields = {"text": "My <question>\r\n", "client_id": str(client_id), "model": "", "effort": "deep"}
        without_script = me.http.post(f"{address}messages/", data=fields)
        alive, ready = me.http.get("/healthz"), me.http.get("/readyz")
    took = [response.elapsed.total_seconds() for response in (page, refused, without_script, alive, ready)]
    wait_until(lambda: product.answers("/readyz"), "the web did not find its database again")
    turn = me.ask("My question", to=conversation, client_id=client_id)

    assert {response.status_code for response in (page, refused, without_script, ready)} == {503}
    assert {response.headers.get("Retry-After") for response in (page, refused, without_script)} == {"5"}
    assert "Back in a moment" in page.text
    assert '<meta http-equiv="refresh" content="5">' in page.text
    assert composer_error(refused.text) == WORDS
    assert "composer-client" not in refused.text  # only a new client id takes the text out of the box
    assert "My &lt;question&gt;" in without_script.text
    assert f'name="client_id" value="{client_id}"' in without_script.text
    assert 'name="effort" value="deep"' in without_script.text
    assert "http-equiv" not in without_script.text
    assert {response.headers["Cache-Control"] for response in (page, refused, without_script)} == {"no-store, private"}
    assert alive.status_code == 200
    assert not ready.json()["database"]
    assert max(took) < 5
    once(turn, text)


@on_postgres
def test_c10_many_who_ask_in_vain_do_not_make_each_other_wait(product, me, conversation):
    me.http.get("/spend/")

    with away(product, 0), ThreadPoolExecutor(40) as people:
        began = time.monotonic()
        pages = list(people.map(lambda _: me.http.get(f"/conversations/{conversation.id}/"), range(40)))
        took = time.monotonic() - began

    assert {page.status_code for page in pages} == {503}
    # A pool that waits for the database would take its patience for every few of them.
    assert took < 10


@on_postgres
def test_c10_a_server_that_has_crashed_loses_nothing_that_it_had_taken(product, me, chats, sandbox, posts):
    # As production has it: what is committed is with the operating system.
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = on')
    product.database.cut()
    running, waiting = chats(2)
    text = says(sandbox, seconds=8)
    turn = me.ask("Tell me a long story", to=running)
    tab = me.watch(turn)
    begun(turn)
    product["worker"].pause()
    sandbox.enqueue(say="Forty-two.")
    queued = me.ask("What is the answer?", to=waiting)
    product["worker"].resume()

    connection.close()
    with postgres_crashed():
        assert me.http.get(f"/conversations/{running.id}/").status_code == 503
    wait_until(_database_answers, "PostgreSQL did not recover")
    tab.wait()

    assert me.page(ended(queued)).text == "Forty-two."
    reply = me.page(ended(turn))
    assert (reply.status, reply.text) == ("done", text)
    assert [record.confidence for record in UsageRecord.objects.all()] == ["exact", "exact"]
    assert posts() == 2


@on_postgres
@pytest.mark.parametrize("seconds", [SHORTER_THAN_A_LEASE, LONGER_THAN_A_LEASE])
def test_c11_an_answer_that_ends_while_the_database_is_away_is_written_when_it_is_back(
    product, me, conversation, sandbox, once, seconds
):
    text = says(sandbox, seconds=1)
    turn = me.ask("Tell me a short story", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    with away(product, seconds):
        sandbox.wait_until_idle()
    tab.wait()

    once(turn, text, tab)


@on_postgres
@pytest.mark.parametrize("ends_meanwhile", [True, False])
def test_c11_what_a_worker_brings_after_it_was_replaced_is_not_paid_for_again(
    product, me, conversation, sandbox, posts, ends_meanwhile
):
    says(sandbox, seconds=1 if ends_meanwhile else 60)
    turn = me.ask("Tell me a story", to=conversation)
    begun(turn)

    # A sweeper elsewhere, this process, still has the database that the worker cannot reach.
    with away(product, 0):
        elsewhere = Sweeper()
        wait_until(lambda: elsewhere.sweep() or not Turn.objects.live().exists(), "its lease did not run out")
        if ends_meanwhile:
            sandbox.wait_until_idle()
    wait_until(lambda: _lines(product, "replaced", turn), "the worker did not notice that it was replaced")
    sandbox.wait_until_idle()  # it has hung up

    reply = me.page(turn)
    assert reply.status == "interrupted"
    assert "Try again" in reply.buttons
    assert reply.text
    record = turn.usage_records.get()
    # Who has seen the end after all corrects what the sweeper could only guess.
    assert record.confidence == ("exact" if ends_meanwhile else "estimated")
    assert record.entries.filter(kind="charge").count() == record.entries.filter(kind="hold").count()
    assert posts() == 1


@on_postgres
def test_c11_a_bell_that_is_heard_while_the_database_is_away_is_rung_again(product, me, conversation, sandbox, once):
    text = says(sandbox, seconds=0)
    product["worker"].pause()
    turn = me.ask("My question", to=conversation)

    with away(product, 0):
        product["worker"].resume()
        wait_until(lambda: _lines(product, "left_to_the_sweeper", turn), "nobody heard the bell")

    once(turn, text)


@on_postgres
@pytest.mark.parametrize("answered", [True, False], ids=["committed", "never_committed"])
@pytest.mark.parametrize("words", [SAVES_THAT_IT_IS_SENT, SAVES_THE_ANSWER], ids=["sending", "settling"])
def test_c12_a_worker_that_does_not_know_whether_it_has_committed(
    product, me, conversation, sandbox, once, words, answered
):
    text = says(sandbox, seconds=0)
    lost = product.database.lie_in_wait(*words, answered=answered, act=lambda: None)

    turn = me.ask("Tell me a short story", to=conversation)
    tab = me.watch(turn)
    assert lost.wait(20)

    once(turn, text, tab)
    assert tab.breaks == 0


@on_postgres
@pytest.mark.smoke
@pytest.mark.parametrize("answered", [True, False], ids=["committed", "never_committed"])
def test_c12_a_question_of_which_nobody_knows_whether_it_was_saved_is_asked_once(
    product, me, conversation, sandbox, once, answered
):
    text, client_id = says(sandbox, seconds=0), uuid.uuid4()
    lost = product.database.lie_in_wait(*SAVES_THE_QUESTION, answered=answered, act=lambda: None)

    refused = me.send("My question", to=conversation, client_id=client_id)
    assert lost.wait(10)
    turn = me.ask("My question", to=conversation, client_id=client_id)

    assert refused.status_code == 503
    assert composer_error(refused.text) == WORDS
    once(turn, text)
    assert Turn.objects.count() == 1
    assert LedgerEntry.objects.filter(kind="hold").values("record").distinct().count() == 1


@contextmanager
def locked():
    """Another program writes, and takes its time: for the block nobody else can."""
    name = connection.settings_dict["NAME"]
    hold = (
        "import sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "base.execute('PRAGMA busy_timeout = 20000')\n"
        "base.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
        "base.execute('ROLLBACK')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"locked\n"
            yield
        finally:
            other.stdin.close()


@on_sqlite
def test_c13_an_answer_ends_right_though_another_program_writes_for_five_seconds(
    product, me, conversation, sandbox, once
):
    text = says(sandbox, seconds=4)
    turn = me.ask("Tell me a long story", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    with locked():
        seen, began = len(tab.events), time.monotonic()
        wait_until(lambda: len(tab.events) > seen + 5, "the stream stood still")
        sandbox.wait_until_idle(20)
        time.sleep(max(0, began + 5 - time.monotonic()))

    once(turn, text, tab)


@on_sqlite
@pytest.mark.smoke
def test_c13_pages_are_read_while_more_people_wait_to_write_than_there_are_threads(product, me, chats, sandbox, posts):
    several = chats(settings.WEB_THREADS + 2)
    for _ in several:
        sandbox.enqueue(say="Forty-two.")

    with ExitStack() as stack:
        people = stack.enter_context(ThreadPoolExecutor(len(several)))
        lock = stack.enter_context(ExitStack())
        lock.enter_context(locked())
        sent = [people.submit(me.send, "What is the answer?", to=one) for one in several]
        wait_until(lambda: all(one.running() for one in sent), "they were not sent")
        read = [me.http.get(f"/conversations/{one.id}/") for one in several]
        stood_still = not any(one.done() for one in sent)
        lock.close()
        answers = [one.result() for one in sent]

    assert stood_still
    assert {page.status_code for page in read} == {200}
    assert {answer.status_code for answer in answers} == {200}
    assert {me.page(ended(turn)).text for turn in Turn.objects.all()} == {"Forty-two."}
    assert posts() == len(several)


def _lines(product, event: str, turn: Turn) -> list[str]:
    return [line for line in product.log_lines(event) if str(turn.id) in line]


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except OperationalError:
        connection.close()
        return False
