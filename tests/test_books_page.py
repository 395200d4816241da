"""An administrator without a shell can have the books added up."""

import pytest
from django.contrib.auth.models import Permission
from django.db.models import F

from chat.models import BudgetPeriod
from tests.books import spent_call, undone

pytestmark = pytest.mark.django_db

PAGE = "/admin/spend/books/"


def test_the_page_says_that_the_books_agree_and_how_much_was_added_up(browse, ada, alice):
    spent_call(alice)

    body = browse(ada).get(PAGE).content.decode()

    assert "The books agree" in body
    assert "3 ledger entries, 1 call and 1 budget period were added up" in " ".join(body.split())


def test_the_page_says_what_is_wrong(browse, ada, alice):
    spent_call(alice)

    with undone():
        BudgetPeriod.objects.update(spent=F("spent") + 1)
        body = browse(ada).get(PAGE).content.decode()

    assert "The books agree" not in body
    assert "the row says" in body


@pytest.mark.parametrize(("permission", "status"), [("view_ledgerentry", 200), ("view_usagerecord", 403)])
def test_it_takes_the_right_to_see_the_ledger(browse, bob, permission, status):
    bob.is_staff = True
    bob.save(update_fields=["is_staff"])
    bob.user_permissions.add(Permission.objects.get(codename=permission))

    assert browse(bob).get(PAGE).status_code == status
