"""The limits that concern a person, in words, and those that people set: admins for others, everybody for themselves.

What holds is decided in chat/budgets.py. Whoever changes a limit on the grounds of another one does it alone: two
raises at the same time would both build on the same old limit, and one of them would be lost.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db import transaction
from django.db.models import Model, QuerySet
from django.utils import timezone

from chat import budgets
from chat.models import Budget, User
from chat.models.budget import Period
from chat.money import spoken
from chat.periods import window


@dataclass(frozen=True)
class Limit:
    """A limit that concerns a person. Nano-dollars; spent and held are those of its account in the running period.

    `counts` is False where a more specific or a temporary one holds instead. `until` is its last day, if it has one.
    """

    account: str
    period: str
    limit: int
    source_words: str
    spent: int = 0
    held: int = 0
    resets_at: datetime | None = None
    until: date | None = None
    blocks: bool = True
    counts: bool = True
    by_self: bool = False

    @property
    def name(self) -> str:
        """Tells the limits of one person apart that can be asked for, in forms."""
        return f"{self.account} {self.period}"

    @property
    def left(self) -> int:
        return max(0, self.limit - self.spent - self.held)

    @property
    def percent_used(self) -> int:
        return min(999, 100 * self.spent // self.limit) if self.limit else 100

    @property
    def is_personal(self) -> bool:
        return self.account.startswith("user:")

    @property
    def period_words(self) -> str:
        return Period(self.period).label

    @property
    def until_words(self) -> str:
        return f"until {day_words(self.until)}" if self.until else ""

    @property
    def resets_words(self) -> str:
        return f"resets on {budgets.day_words(self.resets_at)}" if self.resets_at else ""


def of(user: User, at: datetime | None = None) -> list[Limit]:
    """Every limit that concerns a person: the personal one first, their own, pots, and last what does not count."""
    at = at or timezone.now()
    standings = {(s.account.key, s.period): s for s in budgets.standings(user, at)}
    in_force = budgets.in_force_for(at, user.pk, budgets.groups_of(user.pk))
    concerning = sorted(in_force, key=lambda budget: (budget.created_at, budget.pk))
    by_admins = [b for b in concerning if b.kind == Budget.Kind.PERSONAL and not b.set_by_self]
    winner = max(by_admins, key=budgets.precedence, default=None)
    limits = []
    for budget in concerning:
        standing = standings.get((budgets.key_of(budget, user.pk), budget.period))
        if budget in by_admins:
            standing = standing if budget == winner else None
        elif standing and budget.limit != (standing.limit if _blocks(budget) else standing.warn_limit):
            standing = standing if budget.set_by_self else None  # another pot of the same people holds
        limits.append(_limit(budget, user, standing))
    if winner is None:
        nothing = standings[f"user:{user.pk}", Period.MONTH]
        words = "nobody has set a limit for you yet"
        limits.append(
            Limit(nothing.account.key, nothing.period, 0, words, nothing.spent, nothing.held, nothing.resets_at)
        )
    return sorted(limits, key=lambda limit: (not limit.counts, not limit.is_personal, limit.by_self, limit.account))


def askable(user: User, at: datetime | None = None) -> list[Limit]:
    """What a person can ask the administrators to raise, the tightest first: what blocks and is not their own."""
    found = {limit.name: limit for limit in of(user, at) if limit.counts and limit.blocks and not limit.by_self}
    return sorted(found.values(), key=lambda limit: limit.left)


def end_of(day: date) -> datetime:
    """The midnight after a day, in the organisation's time zone."""
    return window("day", datetime.combine(day, time(12), ZoneInfo(settings.TIME_ZONE)))[1]


def last_day(end: datetime) -> date:
    """The last day before an end that is a local midnight."""
    return (end.astimezone(ZoneInfo(settings.TIME_ZONE)) - timedelta(microseconds=1)).date()


def personal(person: User) -> QuerySet[Budget]:
    """What administrators have set for one person alone, raises too."""
    return Budget.objects.filter(user=person, kind=Budget.Kind.PERSONAL, set_by_self=False)


@transaction.atomic
def set_for(person: User, limit: int, period: str, until: date | None, *, by: User) -> Budget:
    """Set a person's limit: lasting, or with a last day; then the lasting one comes back after it."""
    budgets.enter_the_books(alone=True)
    budget = None if until else personal(person).filter(valid_until=None).order_by("created_at", "pk").last()
    action = CHANGE if budget else ADDITION
    budget = budget or Budget(user=person, valid_until=end_of(until) if until else None)
    _write(budget, limit, period, Budget.Mode.BLOCK)
    log(by, budget, action, f"Limit of {person} set to {words(budget)}")
    return budget


@transaction.atomic
def remove_for(person: User, *, by: User) -> int:
    """Take away every limit that is set for one person alone, raises too. Returns how many there were."""
    budgets.enter_the_books(alone=True)
    mine = list(personal(person))
    for budget in mine:
        log(by, budget, DELETION, f"Limit of {person} removed: {words(budget)}")
    personal(person).delete()
    return len(mine)


@transaction.atomic
def limit_oneself(person: User, limit: int, period: str, mode: str) -> Budget:
    """One limit of one's own: a second one takes the place of the first."""
    budgets.enter_the_books(alone=True)
    mine = Budget.objects.filter(user=person, set_by_self=True)
    budget = mine.order_by("created_at", "pk").last() or Budget(user=person, set_by_self=True)
    mine.exclude(pk=budget.pk).delete()
    return _write(budget, limit, period, mode)


def free_oneself(person: User) -> None:
    Budget.objects.filter(user=person, set_by_self=True).delete()


def own(person: User) -> Budget | None:
    """The limit that a person has set for themself."""
    return Budget.objects.filter(user=person, set_by_self=True).order_by("created_at", "pk").last()


def words(budget: Budget) -> str:
    """For messages and for the log of administrators: "$5.00 a day until 30 November"."""
    until = f" until {day_words(last_day(budget.valid_until))}" if budget.valid_until else ""
    return f"{spoken(budget.limit)} {Period(budget.period).label}{until}"


def day_words(day: date) -> str:
    """A last day: "30 November", with the year when it is another one."""
    return f"{day.day} {day:%B}" + (f" {day.year}" if day.year != timezone.localdate().year else "")


def log(by: User, thing: Model, action: int, message: str) -> None:
    """An act of an administrator, in Django's own log of them. Figures and names of accounts only."""
    LogEntry.objects.log_actions(by.pk, [thing], action, message, single_object=True)


def _limit(budget: Budget, user: User, standing: budgets.Standing | None) -> Limit:
    return Limit(
        account=budgets.key_of(budget, user.pk),
        period=budget.period,
        limit=budget.limit,
        source_words=budget.source_words,
        spent=standing.spent if standing else 0,
        held=standing.held if standing else 0,
        resets_at=standing.resets_at if standing else None,
        until=last_day(budget.valid_until) if budget.valid_until else None,
        blocks=_blocks(budget),
        counts=standing is not None,
        by_self=budget.set_by_self,
    )


def _blocks(budget: Budget) -> bool:
    return budget.mode == Budget.Mode.BLOCK


def _write(budget: Budget, limit: int, period: str, mode: str) -> Budget:
    budget.limit, budget.period, budget.mode = limit, period, mode
    budget.save()
    return budget
