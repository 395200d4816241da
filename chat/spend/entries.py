"""The lines of the ledger."""

from chat.models import BudgetPeriod, LedgerEntry, UsageRecord


def entries(
    record: UsageRecord, periods: list[BudgetPeriod], kind: str, amount: int, number: int = 0, **why
) -> list[LedgerEntry]:
    """One line per period, not saved yet. Their keys are unique: a second one of the same is refused."""
    suffix = f":{number}" if number else ""
    return [
        LedgerEntry(
            kind=kind,
            amount=amount,
            key=f"{kind}:{record.id}:{period.id}{suffix}",
            period=period,
            record=record,
            **why,
        )
        for period in periods
    ]
