"""Asking for more, from the refusal to the answer, as two people at real browsers have it."""

import pytest
from playwright.sync_api import expect

from chat.models import Budget, BudgetRequest
from chat.money import nano
from tests.browser.test_chat import answer, body, send, wait_for_end
from tests.browser.test_pages import barriers_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

PAGE = "/spend/requests/"


def fill(page, amount: str, reason: str) -> None:
    page.get_by_label("How much more, in dollars").fill(amount)
    page.get_by_label("What for").fill(reason)
    page.get_by_role("button", name="Ask").click()


@pytest.fixture
def refused(conversation, limit, ask):
    """Alice's conversation, in which her last question was too dear."""
    limit(conversation.owner, "0.000001")
    ask("Tell me")
    return conversation


@pytest.mark.parametrize("scripts", [True, False], ids=["htmx", "without JavaScript"])
def test_from_a_refusal_to_an_answer(page_of, ada, refused, sandbox, scripts):
    page = page_of(refused.owner, java_script_enabled=scripts)
    page.goto(refused.get_absolute_url())
    answer(page).get_by_role("link", name="Ask for more").click()
    expect(page.get_by_role("radio", name="A personal limit")).to_be_checked()

    fill(page, "5", "The report")
    expect(page.get_by_role("heading", name="Waiting for an answer")).to_be_visible()
    admin = page_of(ada)
    admin.goto("/admin/spend/")
    admin.get_by_role("button", name="Grant").click()
    expect(admin.get_by_text("Granted: the limit is $5.00 a month")).to_be_visible()
    sandbox.enqueue(say="Forty-two.")
    page.goto(refused.get_absolute_url())
    send(page, "And now?")
    wait_for_end(page)

    expect(body(page)).to_have_text("Forty-two.")


@pytest.mark.parametrize("scripts", [True, False], ids=["htmx", "without JavaScript"])
def test_a_mistake_is_named_and_the_words_stay_then_it_is_asked_and_taken_back(page_of, alice, scripts):
    page = page_of(alice, java_script_enabled=scripts)
    page.forgive("422")
    page.goto(PAGE)

    fill(page, "0", "The report")
    expect(page.get_by_role("alert")).to_have_text("Write an amount above zero, of at most $1,000,000.")
    expect(page.get_by_label("What for")).to_have_value("The report")
    fill(page, "2.50", "The report")
    page.get_by_role("button", name="Take it back").click()

    expect(page.get_by_text("Taken back")).to_be_visible()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert BudgetRequest.objects.get().state == "withdrawn"


def test_a_granted_request_is_undone_where_it_was_granted(page_of, ada, alice):
    alice.budget_requests.create(account=f"user:{alice.pk}", amount=nano("5"), reason="Because", until="2030-01-01")
    page = page_of(ada)
    page.goto("/admin/spend/")

    page.get_by_role("button", name="Grant").click()
    page.get_by_role("button", name="Undo").click()

    expect(page.get_by_role("button", name="Grant")).to_be_visible()
    assert not Budget.objects.filter(user=alice).exists()


def test_an_administrator_sets_a_limit_in_the_row_of_a_person(page_of, ada, alice):
    page = page_of(ada)
    page.goto("/admin/spend/")

    page.get_by_role("link", name="Change the limit of alice").click()
    page.get_by_label("Dollars").fill("7")
    page.get_by_role("button", name="Set", exact=True).click()

    expect(page.get_by_text("The limit of alice is set: $7.00 a month.")).to_be_visible()
    assert Budget.objects.get(user=alice).limit == nano("7")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_no_page_about_limits_has_a_barrier_or_scrolls_sideways(page_of, alice, bob, ada, limit, scheme, width):
    limit(alice, "10")
    limit(alice, "3", set_by_self=True)
    for person, state in ((alice, "declined"), (bob, "open")):
        person.budget_requests.create(
            account=f"user:{person.pk}", amount=nano("5"), reason="word" * 60, until="2030-01-01", state=state
        )
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}

    for person, path in (
        (alice, "/spend/"),
        (alice, PAGE),
        (bob, PAGE),
        (ada, f"/admin/spend/?limit={alice.pk}"),
    ):
        page = page_of(person, **options)
        page.goto(path)
        assert barriers_of(page) == "", path
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
