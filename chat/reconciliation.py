"""Our books against the provider's: what each says about one day.

The provider's days begin at midnight UTC, and it says nowhere which moment of a request decides its day. We take the
one in which the request was sent: it is the first that the provider knows of, and no outage of ours moves it. A call
that runs across midnight may be on the other day there; what is missing on the one day is then too much on the other.

Adjustments count for the day of their call, whenever they were made: to meet the invoice is what they are for.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.conf import settings

from chat import alarms, catalogue, periodic, reports
from chat.claude import ClaudeError, organization
from chat.models import UsageRecord
from chat.money import nano, spoken

# Per cent of the larger side.
TOLERATED = 1
# A call is sent at most so long after it was admitted. It lets the index on admitted_at find the day.
LONGEST_WAIT = timedelta(days=1)
TRY_AGAIN = timedelta(hours=1)


@dataclass(frozen=True)
class Compared:
    """Two figures for the same thing, in nano-dollars."""

    name: str
    ours: int
    theirs: int

    @property
    def difference(self) -> int:
        return self.theirs - self.ours

    @property
    def drift(self) -> Decimal:
        """In per cent of the larger one: 0 when both are nothing, 100 when one is."""
        larger = max(self.ours, self.theirs)
        return 100 * Decimal(abs(self.difference)) / larger if larger else Decimal(0)


@dataclass(frozen=True)
class Reconciliation:
    day: date
    models: list[Compared]
    total: Compared
    estimated: int

    @property
    def agrees(self) -> bool:
        return self.total.drift <= TOLERATED

    @property
    def words(self) -> str:
        return (
            f"On {self.day} (UTC) Anthropic charged {spoken(self.total.theirs)}, our books say "
            f"{spoken(self.total.ours)}, {spoken(self.estimated)} of it estimated: {self.total.drift:.2f} % apart."
        )


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def reconcile(day: date) -> Reconciliation:
    """Compare a day, and sound the alarm of that day or settle it. ClaudeError: no report, and nothing has changed."""
    charges = organization.charges(day)
    ours, estimated = _our_books(day)
    theirs: dict[str, Decimal] = {}
    for charge in charges:
        # A model goes by its dated name there. Searches have none: they are in the cost of our calls.
        name = catalogue.find(charge.model).id if charge.model else "no model"
        theirs[name] = theirs.get(name, Decimal(0)) + charge.dollars
    names = sorted({*ours, *theirs})
    compared = [Compared(name, ours.get(name, 0), nano(theirs.get(name, 0))) for name in names]
    total = Compared("total", sum(ours.values()), nano(sum(theirs.values(), Decimal(0))))
    result = Reconciliation(day, compared, total, estimated)
    alarms.settle("not_reconciled", str(day))
    if result.agrees:
        alarms.settle("drift", str(day))
    else:
        alarms.sound("drift", f"{result.words} `manage.py reconcile --day {day}` compares models.", subject=str(day))
    return result


def reconcile_yesterday() -> None:
    """What a worker does each day. Without an admin key nothing; without a report an alarm, and again in an hour."""
    # The sandbox's invoice is gone when it stops: what it says of yesterday is about its last start.
    if settings.SANDBOX or not settings.ANTHROPIC_ADMIN_KEY:
        return
    day = yesterday()
    try:
        reconcile(day)
    except ClaudeError as error:
        alarms.sound("not_reconciled", why_not(error), subject=str(day))
        periodic.give_back("reconcile_yesterday", wait=TRY_AGAIN)


def why_not(error: ClaudeError) -> str:
    """Why a day could not be compared, as a sentence for whoever can do something about it."""
    if error.kind == "no_key":
        return "ANTHROPIC_ADMIN_KEY is not set; Anthropic's Console makes one (sk-ant-admin…)."
    if error.kind == "provider_auth":
        return f"Anthropic did not accept ANTHROPIC_ADMIN_KEY ({error})."
    return f"Nothing was compared, because there was no cost report to be had from Anthropic ({error})."


def _our_books(day: date) -> tuple[dict[str, int], int]:
    """The cost of each model, and how much of it all is estimated. A call that still runs is in no sum yet."""
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    records = UsageRecord.objects.filter(
        state=UsageRecord.State.SETTLED, admitted_at__gte=start - LONGEST_WAIT, sent_at__gte=start, sent_at__lt=end
    )
    costs = {row["model"]: row["spent"] for row in reports.by(records, "model") if row["spent"]}
    return costs, reports.totals(records)["estimated"]
