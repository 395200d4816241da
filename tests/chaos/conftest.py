"""Chaos: real processes, killed, hung and cut off. Each row of the table in docs/chaos.md is a test with its number.

After every test everything runs again, nothing is under way, the books agree with themselves and with the provider's
invoice. At the end a table says what became of each row.
"""

import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from django.db import connection

from chat.models import BudgetPeriod, Conversation, Turn, UsageRecord
from chat.money import spoken
from tests import environment
from tests.books import SONNET, at_once
from tests.chaos import invoice
from tests.chaos.people import Person, Watcher
from tests.chaos.product import Product, upstream_address
from tests.chaos.proxy import Proxy
from tests.conftest import over, streams_in, wait_until

TABLE: list[dict] = []


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(180))
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture(scope="package")
def _product(django_db_setup, django_db_blocker):
    directory = Path(tempfile.mkdtemp(prefix="tally-chaos-"))
    with ExitStack() as stack, django_db_blocker.unblock():
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        claude = stack.enter_context(Proxy(upstream_address()))
        name = connection.settings_dict["NAME"]
        if environment.on_postgres:
            database = stack.enter_context(Proxy(_postgres_socket()))
            url = f"postgresql://tally@127.0.0.1:{database.port}/{name}"
        else:
            database, url = None, f"sqlite:///{name}"
        product = Product(directory, url, claude, database)
        stack.callback(product.stop)
        yield product


@pytest.fixture
def product(_product, transactional_db, sandbox, request):
    """Everything runs. Afterwards everything runs again, and all is accounted for."""
    _product.heal()
    began = time.monotonic()
    yield _product
    _product.heal()
    try:
        wait_until(lambda: not Turn.objects.live().exists(), "a turn is still live", 40)
        wait_until(lambda: not UsageRecord.objects.filter(state__in=UsageRecord.OPEN).exists(), "a call is open", 40)
        sandbox.wait_until_idle(10)
        compared = invoice.compare(sandbox)
        _note(request.node.name, compared, time.monotonic() - began)
        assert not BudgetPeriod.objects.exclude(held=0).exists(), "money is still held"
        assert compared.problems == []
    except BaseException:
        print(_product.logs())
        raise


@pytest.fixture
def conversation(alice):
    """With a title, so that none is asked for: that would be a call of its own."""
    return alice.conversations.create(model=SONNET, title="Named")


@pytest.fixture
def person(product):
    """`person(alice)`: somebody with a browser at the product's address."""
    found = []

    def person(user) -> Person:
        found.append(Person(product.site, user))
        return found[-1]

    yield person
    for one in found:
        one.close()


@pytest.fixture
def chats(alice):
    """`chats(5)`: so many conversations of Alice's, for answers side by side."""

    def chats(count: int) -> list[Conversation]:
        return [alice.conversations.create(model=SONNET, title=f"Named {n}") for n in range(count)]

    return chats


@pytest.fixture
def me(person, alice):
    return person(alice)


@pytest.fixture
def whole(me):
    """`whole(turn, STORY, tab, …)`: it ended right, its price is exact, and the page and every tab have all of it."""

    def whole(turn: Turn, text: str, *tabs: Watcher) -> None:
        turn = ended(turn)
        reply = me.page(turn)
        assert (reply.status, reply.text, reply.ending) == ("done", text, "")
        assert turn.reply.text == text
        assert turn.usage_records.get().confidence == "exact"
        for tab in tabs:
            assert turn.reply.html in tab.wait().final

    return whole


@pytest.fixture
def restarted(product):
    """`restarted(web={"MODELS": …})`: these processes anew, with other settings until the end of the test."""
    anew = set()

    def restarted(**environs: dict[str, str]) -> None:
        names = list(environs)
        for name in names:
            product[name].kill()
        anew.update(names)
        at_once(len(names), lambda number: product.start(names[number], **environs[names[number]]))

    yield restarted
    for name in anew:
        product[name].kill()


@pytest.fixture
def posts(sandbox):
    """`posts()`: how many requests for an answer the provider has seen, whatever became of them."""
    return lambda: len(streams_in(sandbox))


def has_text(turn: Turn) -> bool:
    """The database has some of its words."""
    return Turn.objects.filter(id=turn.id).exclude(checkpoint_text="").exists()


def begun(turn: Turn, seconds: float = 20) -> Turn:
    """Wait until words of an answer are in the database."""
    wait_until(lambda: has_text(turn) or not Turn.objects.live().filter(id=turn.id).exists(), "no text", seconds)
    return turn


def ended(turn: Turn, seconds: float = 40) -> Turn:
    return over(turn, seconds)


def _postgres_socket() -> Path:
    url = urlsplit(environment.postgres)
    host, _, port = url.netloc.rpartition("@")[2].rpartition(":")
    return Path(unquote(host)) / f".s.PGSQL.{port}"


def _note(name: str, compared: invoice.Comparison, seconds: float) -> None:
    states = Counter(Turn.objects.values_list("state", flat=True))
    TABLE.append(
        {
            "row": name.removeprefix("test_"),
            "turns": ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "-",
            "POSTs": compared.posts,
            "exact": spoken(compared.exact),
            "off": compared.exact_difference,
            "estimated": spoken(compared.estimated),
            "billed": spoken(compared.invoiced),
            "s": f"{seconds:.1f}",
        }
    )


def pytest_terminal_summary(terminalreporter):
    if not TABLE:
        return
    heads = list(TABLE[0])
    widths = {head: max(len(head), *(len(str(line[head])) for line in TABLE)) for head in heads}
    terminalreporter.write_sep("=", "what became of each row")
    for line in [{head: head for head in heads}, *sorted(TABLE, key=lambda line: line["row"])]:
        terminalreporter.write_line("  ".join(str(line[head]).ljust(widths[head]) for head in heads).rstrip())
    doubled = sum(line["off"] for line in TABLE)
    terminalreporter.write_line(f"{len(TABLE)} rows; nano-dollars between books and invoice on exact calls: {doubled}")
