"""What every database of Tally has: the triggers of the ledger, the shipped prices, one limit for everyone."""

from datetime import UTC, datetime

from django.conf import settings
from django.db import connections

from chat import catalogue, money, search_index, triggers
from chat.models import Budget, Price
from chat.pricing import KINDS

LONG = "long_"


def after_migrate(using: str = "default", **kwargs) -> None:
    """Runs after every `migrate`. Idempotent; a migration that rebuilds a table would lose its triggers."""
    triggers.install(connections[using])
    search_index.install(connections[using])
    sync_prices()
    ensure_a_limit()


def before_migrate(using: str = "default", **kwargs) -> None:
    search_index.suspend(connections[using])


def sync_prices() -> list[Price]:
    """Add the shipped prices that are not there yet, and return them. What is there is never changed."""
    known = set(Price.objects.values_list("model", "effective_from"))
    new = [
        price
        for model in catalogue.shipped()
        for price in map(_price(model.id), model.prices)
        if (price.model, price.effective_from) not in known
    ]
    Price.objects.bulk_create(new, ignore_conflicts=True)
    return new


def ensure_a_limit() -> None:
    """Without a limit for everyone nobody could ask anything, or everybody everything."""
    if not Budget.objects.filter(kind=Budget.Kind.PERSONAL, user=None, group=None, valid_until=None).exists():
        Budget.objects.create(limit=money.nano(settings.DEFAULT_LIMIT))


def _price(model: str):
    def price(row: dict) -> Price:
        amounts = {name: money.nano(row[name]) for name in KINDS}
        for name, dollars in row.get("long", {}).items():
            amounts[LONG + name] = money.nano(dollars)
        return Price(
            model=model,
            effective_from=datetime.fromisoformat(row["effective_from"]).replace(tzinfo=UTC),
            long_above=row.get("long_above"),
            fast_percent=_percent(row.get("fast")),
            us_percent=_percent(row.get("us")),
            search=money.nano(row["search"]),
            source=row["source"],
            **amounts,
        )

    return price


def _percent(factor: str | None) -> int | None:
    return None if factor is None else int(money.Decimal(factor) * 100)
