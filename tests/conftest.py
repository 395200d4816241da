"""The cast and the helpers. Alice acts, Bob is the stranger, Ada is the admin."""

import os
import socket
import threading
import time
import uuid

import pytest
import uvicorn
from django.conf import settings
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.test import Client

from chat import audit, catalogue, spend, triggers
from chat.models import Budget, BudgetPeriod, Turn, UsageRecord, User
from chat.money import nano
from chat.pricing import Usage
from chat.relay import Relay
from chat.spend import admission
from local import browser as local_browser
from tests import environment
from tests.books import admit, row, spent_call
from tests.pages import reply_on_page

PASSWORD = "a-password-for-tests"
QUIET = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"


def pytest_configure(config):
    """A slow hash protects real passwords; here it would be most of the time that the tests take."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The browser comes late, whatever the order is otherwise: once Playwright's event loop runs in this thread, no
    other one can be started here. Chaos comes last: its processes would take a hand in what others test."""

    def late(item) -> tuple[bool, bool]:
        return item.get_closest_marker("chaos") is not None, item.get_closest_marker("browser") is not None

    items.sort(key=late)


@pytest.fixture(scope="session", autouse=True)
def _static_files():
    """Pages name their files by content, so the files have to have been collected."""
    call_command("collectstatic", interactive=False, verbosity=0)


@pytest.fixture(scope="session")
def django_db_modify_db_settings():
    """Threads of the worker and of the server need a database that they can all open."""
    if not environment.on_postgres:
        settings.DATABASES["default"]["TEST"]["NAME"] = environment.directory / "test.sqlite3"


@pytest.fixture(autouse=True)
def _the_books_agree(request):
    """After every test that touched the database: nothing runs any more, and every total is the sum of its entries."""
    names = {"transactional_db", "db", "django_db_setup"} & set(request.fixturenames)
    marked = request.node.get_closest_marker("django_db")
    if not names and not marked:
        yield
        return
    threaded = "transactional_db" in request.fixturenames or (marked and marked.kwargs.get("transaction"))
    request.getfixturevalue("transactional_db" if threaded else "db")
    yield
    try:
        if threaded:
            wait_until(lambda: not Turn.objects.live().exists(), "a turn is still live")
            wait_until(lambda: not UsageRecord.objects.filter(state="sent").exists(), "a call is still open")
            wait_until(lambda: audit.problems() == [], "the books do not agree")  # a title may be written meanwhile
        assert audit.problems() == []
    finally:
        if threaded:
            triggers.remove(connection)  # the database is emptied now; post_migrate puts them back


@pytest.fixture
def sandbox():
    environment.sandbox.reset()
    yield environment.sandbox
    environment.sandbox.wait_until_idle()
    environment.sandbox.reset()  # what was scripted and not asked for must not meet the next test


@pytest.fixture(scope="session")
def worker(django_db_setup, django_db_blocker):
    """A real Celery worker on the real Redis, in threads of this process. Use it with `transactional_db`."""
    from celery.contrib.testing.worker import start_worker

    from chat.tasks import warm_up
    from config.celery import app

    with (
        django_db_blocker.unblock(),
        start_worker(app, pool="threads", concurrency=80, perform_ping_check=False, loglevel="ERROR"),
    ):
        warm_up()  # a real worker says that it is ready, this one does not
        yield


@pytest.fixture(scope="session")
def chromiums():
    """`chromiums()`: one browser for all tests; another one if it has died, which costs only the test it died in."""
    from playwright.sync_api import sync_playwright

    path = local_browser.find()
    if path is None:
        pytest.fail("There is no Chromium. `make test` installs one; SKIP_BROWSER=1 leaves these tests out.")
    # Playwright's loop runs in this thread from now on, and Django would not let the ORM be used beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        launched = []

        def living():
            if not launched or not launched[-1].is_connected():
                launched.append(playwright.chromium.launch(executable_path=path, args=QUIET.split()))
            return launched[-1]

        yield living
        for browser in launched:
            browser.close()


@pytest.fixture
def chromium(chromiums):
    """The browser; its contexts are the test's."""
    return chromiums()


@pytest.fixture
def alice(db) -> User:
    return _person("alice")


@pytest.fixture
def bob(db) -> User:
    return _person("bob")


@pytest.fixture
def ada(db) -> User:
    return _person("ada", is_staff=True, is_superuser=True)


@pytest.fixture
def conversation(alice):
    return alice.conversations.create(model=catalogue.default().id)


@pytest.fixture
def browse():
    """A signed-in client for a person: `browse(alice).get("/spend/")`."""

    def browse(person: User, **headers) -> Client:
        client = Client(headers=headers)
        client.force_login(person)
        return client

    return browse


@pytest.fixture
def send(browse, conversation, alice):
    """Alice presses Send: `send("Hello")`. Without htmx unless `htmx=True`."""

    def send(text: str = "Hello", client_id=None, *, to=None, by=None, htmx=False, **fields):
        to = to or conversation
        client = browse(by or to.owner, **({"HX-Request": "true"} if htmx else {}))
        fields = {"text": text, "client_id": client_id or uuid.uuid4(), **fields}
        return client.post(f"/conversations/{to.id}/messages/", fields)

    return send


@pytest.fixture
def ask(send, conversation):
    """Alice asks and waits for the end: `turn = ask("Hello")`. Needs `worker` and `transactional_db`."""

    def ask(text: str = "Hello", **fields) -> Turn:
        response = send(text, **fields)
        assert response.status_code in (200, 302), response.content.decode()
        return over(Turn.objects.latest("created_at"))

    return ask


@pytest.fixture
def limit():
    """`limit(alice, "0.50")` sets a person's limit in dollars a month."""

    def limit(person: User, dollars: str, **fields) -> Budget:
        return Budget.objects.create(user=person, limit=nano(dollars), **fields)

    return limit


@pytest.fixture
def limit_nano(limit):
    """`limit_nano(alice, 7 * HELD)`: a limit to the nano-dollar."""

    def limit_nano(person, amount: int, **fields) -> Budget:
        budget = limit(person, "0", **fields)
        budget.limit = amount
        budget.save(update_fields=["limit"])
        return budget

    return limit_nano


@pytest.fixture
def clerk(db):
    """`clerk("view_usagerecord")` may come into the admin and do only that."""

    def clerk(*rights: str) -> User:
        person = _person("clerk", is_staff=True)
        person.user_permissions.set(Permission.objects.filter(codename__in=rights))
        return person

    return clerk


@pytest.fixture
def clock(monkeypatch):
    """`clock(moment)`: from now on the database's clock says that moment to whoever is admitted."""
    found = spend.current_price

    def clock(moment) -> None:
        monkeypatch.setattr(admission, "current_price", lambda model: (found(model)[0], moment))

    return clock


@pytest.fixture
def page(browse, alice):
    """`page(turn)`: the answer as Alice's page shows it."""
    return lambda turn: reply_on_page(browse(alice), turn)


@pytest.fixture
def spent(alice):
    """`spent("0.14")`: Alice has used so many dollars."""
    return lambda dollars: spend.settle(admit(alice), Usage(), exact=True, cost=nano(dollars))


@pytest.fixture
def used(alice):
    """`used("20.50", of="25")`: what Alice has used of the limit of her month, as the row of her period has it.

    Real calls make the row and its entries; what a test makes of it is undone at the end, for the books.
    """
    changed = []

    def used(dollars: str, *, of: str, account: str = "", mode: str = "block") -> BudgetPeriod:
        account = account or f"user:{alice.pk}"
        if not BudgetPeriod.objects.filter(account=account).exists():
            spent_call(alice)
        period = row(account)
        changed.append(period)
        limits = {"limit": nano(of), "warn_limit": None} if mode == "block" else {"limit": None, "warn_limit": nano(of)}
        BudgetPeriod.objects.filter(pk=period.pk).update(spent=nano(dollars), **limits)
        return row(account)

    yield used
    for period in reversed(changed):
        period.save()


@pytest.fixture
def site(transactional_db):
    """The product's address, served by uvicorn in a thread: `live_server` is WSGI and would hold back a stream."""
    from config.asgi import django_application, with_static_files

    application = with_static_files(Relay(django_application))  # connections to Redis belong to one event loop
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server did not start")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)
    listener.close()


def over(turn: Turn, seconds: float = 20) -> Turn:
    """Wait until a turn has ended, and give it as it is then."""
    wait_until(
        lambda: Turn.objects.exclude(state__in=Turn.LIVE).filter(id=turn.id).exists(), f"{turn} did not end", seconds
    )
    return Turn.objects.select_related("reply", "question", "conversation").get(id=turn.id)


def streams_in(sandbox) -> list[dict]:
    """What Claude was asked for answers, oldest first: the bodies of the requests."""
    return [request["body"] for request in sandbox.requests if request["body"].get("stream")]


def wait_until(condition, complaint: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(complaint)
        time.sleep(0.02)


def _person(name: str, **fields) -> User:
    return User.objects.create_user(name, f"{name}@example.org", PASSWORD, **fields)
