"""What stands above the composer at a real browser: it comes when an answer ends, and goes when it is dismissed."""

import pytest
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from chat import spend
from chat.models import BudgetWarning
from chat.money import nano
from chat.pricing import Usage
from chat.warnings import note_crossings
from tests.books import admit
from tests.browser.test_chat import LONG, send, wait_for_end, wait_for_text
from tests.browser.test_pages import barriers_of
from tests.conftest import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

DOLLAR = Usage(output=100_000)  # what costs exactly one dollar


@pytest.fixture
def nearly(alice, limit_nano):
    """Alice has used a dollar: just below 80 per cent of her limit, so that the next answer crosses it."""
    limit_nano(alice, nano("1.25001"))
    spend.settle(admit(alice, wanted=DOLLAR.output), DOLLAR, exact=True)


@pytest.fixture
def warned(nearly, alice, limit_nano):
    """As `nearly`, but the limit is lower and the sweeper has noted it."""
    limit_nano(alice, nano("1.20"))
    spend.void(admit(alice, wanted=1))
    note_crossings()


@pytest.fixture
def granted(alice, ada):
    facts = {"account": f"user:{alice.pk}", "amount": nano("10"), "reason": "Because", "until": "2199-07-01"}
    alice.budget_requests.create(**facts, state="granted", decided_by=ada, decided_at=timezone.now())


def notices(page: Page) -> Locator:
    return page.locator("#notices .notice")


def test_the_warning_comes_when_an_answer_crosses_eighty_per_cent(nearly, page_of, alice, conversation):
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())
    before = notices(page).count()

    send(page, "Hello")
    wait_for_end(page)

    assert before == 0
    expect(notices(page)).to_contain_text("You have used 80 % of your limit", timeout=2_000)


def test_a_dismissed_warning_is_gone_at_once_and_after_a_reload(warned, page_of, alice, conversation):
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())
    expect(notices(page)).to_contain_text("You have used 83 % of your limit: $1.00 of $1.20 this month")

    page.get_by_role("button", name="Dismiss").click()

    expect(notices(page)).to_have_count(0)
    wait_until(lambda: BudgetWarning.objects.exclude(dismissed_at=None).exists(), "it was not dismissed")
    note_crossings()
    page.reload()
    expect(notices(page)).to_have_count(0)


def test_a_warning_that_is_read_already_stays_where_it_is_when_an_answer_ends(
    warned, page_of, alice, conversation, sandbox
):
    sandbox.enqueue(say=LONG, rate=80)
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())
    send(page, "Tell me")
    wait_for_text(page)
    notices(page).evaluate("notice => { notice.seen = true }")
    page.get_by_role("button", name="Dismiss").focus()

    wait_for_end(page)

    expect(page.get_by_role("button", name="Dismiss")).to_be_focused()
    assert notices(page).evaluate("notice => notice.seen")


def test_without_javascript_a_dismissal_comes_back_to_the_same_chat(warned, granted, page_of, alice, conversation):
    page = page_of(alice, java_script_enabled=False)
    page.goto(conversation.get_absolute_url())
    expect(notices(page)).to_have_count(2)

    page.get_by_role("button", name="Dismiss").first.click()
    page.get_by_role("button", name="Dismiss").click()

    expect(notices(page)).to_have_count(0)
    assert page.url.endswith(conversation.get_absolute_url())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_warnings_have_no_barrier_and_fit_on_a_phone(warned, granted, page_of, alice, conversation, scheme, width):
    page = page_of(alice, color_scheme=scheme, viewport={"width": width, "height": 800})

    page.goto(conversation.get_absolute_url())

    expect(notices(page)).to_have_count(2)
    assert barriers_of(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
