"""The books: what is written once stays, every kind of damage is found, and deletions keep the money."""

import uuid

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F

from chat import audit, spend, triggers
from chat.models import Budget, BudgetPeriod, LedgerEntry, Price, Turn, UsageRecord
from chat.models.spend import WriteOnce
from chat.money import nano
from tests.books import COST, HELD, USED, admit, paris, row, spent_call, undone

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(alice):
    """One call of each state: settled, void and running. The running one is closed at the end."""
    settled, void, running = spent_call(alice), admit(alice), admit(alice)
    spend.void(void)
    yield {"settled": settled, "void": void, "running": running}
    spend.void(running)


def _records(**fields):
    return UsageRecord.objects.filter(**fields)


def _add_entry(kind: str, amount: int, **fields) -> None:
    period = BudgetPeriod.objects.first()
    LedgerEntry.objects.create(kind=kind, amount=amount, key=str(uuid.uuid4()), period=period, **fields)


def test_books_that_were_kept_by_the_rules_have_no_problems(books):
    assert audit.problems() == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda: BudgetPeriod.objects.update(spent=F("spent") - 1), id="a period that spent less"),
        pytest.param(lambda: BudgetPeriod.objects.update(spent=0), id="a period that was forgiven"),
        pytest.param(lambda: BudgetPeriod.objects.update(held=F("held") + 1), id="a hold of nobody"),
        pytest.param(lambda: BudgetPeriod.objects.update(held=0), id="a hold that was dropped"),
        pytest.param(
            lambda: BudgetPeriod.objects.update(spent=F("spent") + F("held"), held=0), id="a hold that became spend"
        ),
        pytest.param(lambda: _records(state="settled").update(cost=F("cost") + 1), id="a call that cost more"),
        pytest.param(lambda: _records(state="settled").update(cost=0), id="a call that became free"),
        pytest.param(lambda: _records(state="settled").update(state="sent"), id="a call that runs again"),
        pytest.param(lambda: _records(state="settled").update(state="void", cost=0), id="a call that was voided later"),
        pytest.param(lambda: _records(state="void").update(state="sent"), id="a void call that runs again"),
        pytest.param(lambda: _records(state="void").update(state="settled", cost=7), id="a void call that costs"),
        pytest.param(lambda: _records(state="sent").update(state="settled"), id="a call that ended without a release"),
        pytest.param(lambda: _records(state="sent").update(state="void"), id="a call voided without a release"),
        pytest.param(lambda: _records(state="sent").update(held=F("held") - 1), id="a call that holds less"),
        pytest.param(
            lambda: _records(state="settled").update(confidence="estimated", held=COST - 1),
            id="an estimate above its hold",
        ),
        pytest.param(lambda: _add_entry("charge", 1), id="a charge of nobody"),
        pytest.param(lambda: _add_entry("hold", 1), id="one hold too many"),
        pytest.param(lambda: _add_entry("release", -1), id="one release too many"),
        pytest.param(lambda: _add_entry("adjust", -1), id="a correction that the period does not know"),
        pytest.param(
            lambda: _add_entry("charge", COST, record=_records(state="settled").get()), id="a call charged twice"
        ),
        pytest.param(
            lambda: _add_entry("release", 0, record=_records(state="settled").get()), id="a call released twice"
        ),
    ],
)
def test_the_audit_finds(books, damage):
    with undone():
        damage()

        assert audit.problems() != []


def test_the_audit_finds_a_row_written_by_hand(books):
    with undone(), connection.cursor() as cursor:
        cursor.execute("UPDATE chat_budgetperiod SET spent = spent + 1000000000")

        problem = audit.problems()[0]

    assert "$1.00 spent" in problem
    assert "its entries $0.0021" in problem


def test_the_audit_finds_a_call_that_was_made_without_a_hold(books):
    with undone():
        record = books["settled"]
        record.pk, record._state.adding = uuid.uuid4(), True
        record.save()

        assert f"Call {record.pk} was made without a hold." in audit.problems()


def test_the_audit_finds_a_hold_in_the_wrong_period(books):
    with undone():
        elsewhere = BudgetPeriod.objects.create(
            account="user:0", period="day", start=paris(2026, 1, 1), end=paris(2026, 1, 2), held=HELD
        )
        LedgerEntry.objects.create(kind="hold", amount=HELD, key="elsewhere", period=elsewhere, record=books["settled"])

        assert audit.problems() != []


def test_the_audit_finds_a_call_that_runs_on_after_its_turn(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    record = admit(alice, turn=turn, purpose="reply")
    assert audit.problems() == []

    with undone():
        Turn.objects.update(state=Turn.State.DONE)

        assert audit.problems() == [f"Call {record.id} holds money, but its turn is over."]
    spend.void(record)


def test_an_estimate_that_was_corrected_above_its_hold_is_no_problem(alice, ada):
    record = admit(alice)
    spend.settle(record, spend.estimate(record, {}, 1_000, 0), exact=False)

    spend.adjust(record, 1, actor=ada, reason="The invoice says so")

    assert record.cost == record.held
    assert audit.problems() == []


def test_the_audit_finds_a_call_that_was_moved_into_another_month(books):
    with undone():
        _records(state="settled").update(admitted_at=paris(2026, 1, 5))

        assert audit.problems() != []


# --- Written once


@pytest.mark.parametrize("model", [LedgerEntry, Price])
def test_what_is_written_once_refuses_save_and_delete(books, model):
    written = model.objects.first()

    with pytest.raises(WriteOnce):
        written.save()
    with pytest.raises(WriteOnce):
        written.delete()


@pytest.mark.parametrize("model", [LedgerEntry, Price])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows.update(created_at=F("created_at")), id="an update, even to the same"),
        pytest.param(lambda rows: rows.bulk_update([rows.first()], ["created_at"]), id="a bulk update"),
        pytest.param(lambda rows: rows.all()._raw_delete("default"), id="a raw delete"),
        pytest.param(lambda rows: rows.filter(pk=rows.latest("pk").pk).delete(), id="a delete"),
        pytest.param(
            lambda rows: rows.bulk_create(
                [rows.first()], update_conflicts=True, unique_fields=["id"], update_fields=["created_at"]
            ),
            id="an upsert",
        ),
    ],
)
def test_the_database_refuses_to_change_what_is_written_once(books, model, change):
    before = list(model.objects.order_by("pk").values())

    with pytest.raises(IntegrityError, match="written once"), transaction.atomic():
        change(model.objects)

    assert list(model.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("table", triggers.TABLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET created_at = created_at", "DELETE FROM {}"])
def test_the_database_refuses_a_statement_typed_by_hand(books, table, statement):
    with pytest.raises(DatabaseError, match="written once"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))


def test_triggers_can_be_put_in_place_again(books):
    triggers.install(connection)

    with pytest.raises(IntegrityError, match="written once"), transaction.atomic():
        LedgerEntry.objects.update(amount=0)


def test_the_same_entry_cannot_be_written_twice(books):
    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerEntry.objects.create(
            kind="charge",
            amount=COST,
            key=LedgerEntry.objects.get(kind="charge").key,
            period=BudgetPeriod.objects.get(),
        )


@pytest.mark.parametrize(("kind", "amount"), [("hold", -1), ("charge", -1), ("release", 1), ("spend", 1)])
def test_an_entry_whose_sign_does_not_fit_its_kind_is_refused(books, kind, amount):
    with pytest.raises(IntegrityError), transaction.atomic():
        _add_entry(kind, amount)


@pytest.mark.parametrize("field", ["spent", "held"])
def test_a_period_never_goes_below_zero(books, field):
    with pytest.raises(IntegrityError), transaction.atomic():
        BudgetPeriod.objects.update(**{field: -1})


@pytest.mark.parametrize("fields", [{"cost": -1}, {"held": -1}, {"state": "void", "cost": 1}])
def test_the_database_refuses_a_call_that_makes_no_sense(books, fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        _records(state="settled").update(**fields)


def test_a_model_has_one_price_a_date():
    price = Price.objects.first()
    price.pk, price._state.adding = None, True

    with pytest.raises(IntegrityError), transaction.atomic():
        price.save()


@pytest.mark.parametrize("model", [UsageRecord, BudgetPeriod])
def test_what_has_entries_cannot_be_deleted(books, model):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.all().delete()


# --- Deletions


def _totals(person_id: int) -> tuple:
    calls = UsageRecord.objects.filter(state="settled").values_list("cost", flat=True)
    return row(f"user:{person_id}").spent, row("everyone").spent, sum(calls), LedgerEntry.objects.count()


def test_a_deleted_conversation_keeps_its_money(alice, conversation):
    Budget.objects.create(kind="pot", limit=nano("5"))
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    spend.settle(admit(alice, turn=turn, purpose="reply"), USED, exact=True)
    before = _totals(alice.pk)

    conversation.delete()

    record = UsageRecord.objects.get()
    assert (record.conversation, record.turn, record.user) == (None, None, alice)
    assert _totals(alice.pk) == before
    assert audit.problems() == []


def test_a_deleted_person_leaves_the_money_and_takes_the_name(alice, conversation):
    Budget.objects.create(kind="pot", limit=nano("5"))
    turn = Turn.objects.claim(conversation.start_turn("My name is Alice", uuid.uuid4()).id)
    spend.settle(admit(alice, turn=turn, purpose="reply"), USED, exact=True)
    person_id, before = alice.pk, _totals(alice.pk)

    alice.delete()

    assert UsageRecord.objects.get().user is None
    assert _totals(person_id) == before
    for model in (UsageRecord, LedgerEntry, BudgetPeriod):
        assert "alice" not in str(list(model.objects.values())).lower()
    assert audit.problems() == []


def test_a_call_that_runs_while_its_conversation_is_deleted_is_still_charged(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    record = admit(alice, turn=turn, purpose="reply")

    conversation.delete()

    assert spend.settle(record, USED, exact=True)
    assert (row(f"user:{alice.pk}").spent, row(f"user:{alice.pk}").held) == (COST, 0)


def test_a_correction_names_its_author_by_number(alice, ada):
    record, author = spent_call(alice), ada.pk
    spend.adjust(record, 5, actor=ada, reason="The invoice says so")

    ada.delete()

    assert record.entries.get(kind="adjust").actor == f"user:{author}"


def test_a_deleted_team_leaves_what_it_spent(alice):
    team = Group.objects.create(name="Editors")
    alice.groups.add(team)
    Budget.objects.create(kind="pot", group=team, limit=nano("5"))
    spent_call(alice)
    account = f"group:{team.pk}"

    team.delete()

    assert row(account).spent == COST
    assert UsageRecord.objects.get().group is None
