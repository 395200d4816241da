"""Which limits hold for a person now, and how they stand."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from chat.models import Budget, BudgetPeriod, LedgerEntry, UsageRecord, User
from chat.periods import window
from chat.prepared import Prepared

EVERYONE = "everyone"
# The number of the lock in PostgreSQL; any that nothing else in the database uses.
ADMISSIONS = 7_345_211


@dataclass(frozen=True)
class Account:
    """One row that a call is counted in. Nano-dollars: `limit` stops it, `warn_limit` only warns, None does neither."""

    key: str
    period: str
    start: datetime
    end: datetime
    limit: int | None
    source: str
    warn_limit: int | None = None

    @property
    def is_personal(self) -> bool:
        return self.key.startswith("user:")


@dataclass(frozen=True)
class Standing:
    """How one limit stands, in nano-dollars."""

    account: Account
    spent: int
    held: int

    @property
    def limit(self) -> int | None:
        return self.account.limit

    @property
    def warn_limit(self) -> int | None:
        return self.account.warn_limit

    @property
    def left(self) -> int:
        return max(0, (self.limit or 0) - self.spent - self.held)

    @property
    def percent_used(self) -> int:
        """Of the limit that stops, else of the one that warns. Rounded down, so that 100 means all of it."""
        limit = self.warn_limit if self.limit is None else self.limit
        return min(999, 100 * self.spent // limit) if limit else 100

    @property
    def source_words(self) -> str:
        return self.account.source

    @property
    def period(self) -> str:
        return self.account.period

    @property
    def resets_at(self) -> datetime:
        return self.account.end


def accounts_of(user: User, at: datetime) -> list[Account]:
    """The accounts that apply to a person at a moment, in the order in which they are locked.

    There is always a personal one: without any limit set for anybody its limit is zero.
    """
    return accounts_for(user.pk, groups_of(user.pk), at)


def groups_of(user_id: int) -> list[int]:
    """The ids of a person's teams. Spend is booked under the first."""
    return sorted(membership.group_id for membership in _memberships(user_id))


def accounts_for(user_id: int, groups: list[int], at: datetime) -> list[Account]:
    """`accounts_of` for somebody whose teams are known."""
    return _applying(in_force_for(at, user_id, groups), user_id, at)


def enter_the_books(*, alone: bool = False) -> None:
    """Taken by every admission, together with others; `alone` by whoever opens a period.

    So an account never opens while a call is being admitted that does not know of it yet. Until the end of the
    transaction. SQLite has one writer at a time anyway.
    """
    if connection.vendor == "postgresql":
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {lock}(%s)", [ADMISSIONS])


@transaction.atomic
def open_period(account: Account) -> BudgetPeriod:
    """Make the row of a period on its first use.

    A limit that is set in mid-period finds money already spent: it comes in as one adjustment, and calls that
    are running are held here too. Their records are locked first, so that none settles in between.
    """
    enter_the_books(alone=True)
    period, created = BudgetPeriod.objects.get_or_create(
        account=account.key,
        period=account.period,
        start=account.start,
        defaults={"end": account.end, "limit": account.limit, "warn_limit": account.warn_limit},
    )
    if not created:
        return period
    records = _records_of(account)
    running = list(records.filter(state__in=UsageRecord.OPEN).order_by("id").select_for_update(of=("self",)))
    spent = records.filter(state=UsageRecord.State.SETTLED).aggregate(sum=Sum("cost"))["sum"] or 0
    entries = [
        LedgerEntry(
            kind=LedgerEntry.Kind.HOLD,
            amount=record.held,
            key=f"hold:{record.id}:{period.id}",
            period=period,
            record=record,
        )
        for record in running
    ]
    if spent:
        entries.append(
            LedgerEntry(
                kind=LedgerEntry.Kind.ADJUST,
                amount=spent,
                key=f"opening:{period.id}",
                period=period,
                reason="Spent in this period before the limit was set",
            )
        )
    if entries:
        LedgerEntry.objects.bulk_create(entries)
        held = sum(record.held for record in running)
        BudgetPeriod.objects.filter(id=period.id).update(spent=F("spent") + spent, held=F("held") + held)
    return period


def standings(user: User, at: datetime | None = None) -> list[Standing]:
    """How every limit of a person stands, the tightest first. Reads only."""
    accounts = accounts_of(user, at or timezone.now())
    return sorted(_stand(accounts), key=lambda standing: (standing.limit is None, standing.left))


def personal_standings(users: Iterable[User], at: datetime) -> dict[int, Standing]:
    """The personal limit that each of them will reach first, by their id; nothing for those whose limits only warn.

    A handful of queries whatever their number.
    """
    memberships: dict[int, set[int]] = {}
    for user_id, group_id in User.groups.through.objects.values_list("user_id", "group_id"):
        memberships.setdefault(user_id, set()).add(group_id)
    in_force = list(_in_force(at))
    owners: dict[Account, int] = {}
    for user in users:
        groups = memberships.get(user.pk, set())
        mine = [b for b in in_force if b.user_id == user.pk or b.group_id in groups or not (b.user_id or b.group_id)]
        for account in _applying(mine, user.pk, at):
            if account.is_personal and account.limit is not None:
                owners[account] = user.pk
    found: dict[int, Standing] = {}
    for standing in _stand(owners):
        user_id = owners[standing.account]
        known = found.get(user_id)
        found[user_id] = standing if known is None or standing.left < known.left else known
    return found


def day_words(moment: datetime) -> str:
    """The day on which a period starts again, in the organisation's time zone: "1 December"."""
    local = moment.astimezone(ZoneInfo(settings.TIME_ZONE))
    return f"{local.day} {local:%B}"


def _in_force(at: datetime):
    return Budget.objects.filter(Q(valid_until=None) | Q(valid_until__gt=at)).select_related("group")


_memberships = Prepared(lambda user: User.groups.through.objects.filter(user_id=user), User._meta.pk)
in_force_for = Prepared(
    lambda at, user, groups: _in_force(at).filter(Q(user=user) | Q(group__id__in=groups) | Q(user=None, group=None)),
    Budget._meta.get_field("valid_until"),
    User._meta.pk,
    Group._meta.pk,
)


def _applying(in_force: Iterable[Budget], user_id: int, at: datetime) -> list[Account]:
    in_force = list(in_force)
    personal = [b for b in in_force if b.kind == Budget.Kind.PERSONAL and not b.set_by_self]
    pots = [b for b in in_force if b.kind == Budget.Kind.POT]
    applying = [max(personal, key=precedence)] if personal else []
    applying += [b for b in in_force if b.set_by_self] + [b for b in pots if not _gives_way(b, pots)]
    accounts: dict[tuple[str, str], Account] = {}
    for budget in applying:
        account = _account(budget, user_id, at)
        known = accounts.get((account.key, account.period))
        accounts[account.key, account.period] = account if known is None else _both(known, account)
    if not personal:
        start, end = window("month", at)
        accounts[f"user:{user_id}", "month"] = Account(f"user:{user_id}", "month", start, end, 0, "no limit is set")
    return sorted(accounts.values(), key=lambda account: (account.key, account.period))


def _gives_way(pot: Budget, pots: list[Budget]) -> bool:
    """A pot with an end date, the newest of them, stands in for the others of its team and period until then."""
    raised = [p for p in pots if (p.group_id, p.period) == (pot.group_id, pot.period) and p.valid_until]
    return bool(raised) and pot != max(raised, key=precedence)


def _stand(accounts: Iterable[Account]) -> list[Standing]:
    accounts = list(accounts)
    periods = BudgetPeriod.objects.filter(start__in={account.start for account in accounts})
    if len(accounts) < 100:
        periods = periods.filter(account__in=[account.key for account in accounts])
    rows = {(row.account, row.period, row.start): row for row in periods}
    unopened = [account for account in accounts if (account.key, account.period, account.start) not in rows]
    sums = _sums_before_opening(unopened)
    standings = []
    for account in accounts:
        row = rows.get((account.key, account.period, account.start))
        spent, held = (row.spent, row.held) if row else sums[account]
        standings.append(Standing(account, spent, held))
    return standings


def _sums_before_opening(accounts: list[Account]) -> dict[Account, tuple[int, int]]:
    """What accounts spent and hold in periods whose rows are not made yet; people's in one query a period."""
    found: dict[Account, tuple[int, int]] = {}
    held = Sum("held", filter=Q(state__in=UsageRecord.OPEN))
    people = [account for account in accounts if account.is_personal]
    for start, end in {(account.start, account.end) for account in people}:
        mine = [account for account in people if (account.start, account.end) == (start, end)]
        records = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)
        if len(mine) < 100:
            records = records.filter(user__in=[int(account.key.removeprefix("user:")) for account in mine])
        rows = records.order_by().values("user").annotate(spent=Sum("cost"), holds=held)
        sums = {f"user:{row['user']}": (row["spent"] or 0, row["holds"] or 0) for row in rows}
        found |= {account: sums.get(account.key, (0, 0)) for account in mine}
    for account in accounts:
        if not account.is_personal:
            total = _records_of(account).aggregate(spent=Sum("cost"), holds=held)
            found[account] = total["spent"] or 0, total["holds"] or 0
    return found


def periods_with(record: UsageRecord) -> Iterable[BudgetPeriod]:
    """The periods in whose sums a call is, also those that were opened after it."""
    periods = BudgetPeriod.objects.filter(start__lte=record.admitted_at, end__gt=record.admitted_at)
    teams = {record.group_id, *(groups_of(record.user_id) if record.user_id else [])}
    return periods.filter(account__in=[EVERYONE, f"user:{record.user_id}", *(f"group:{team}" for team in teams)])


def _records_of(account: Account):
    records = UsageRecord.objects.filter(admitted_at__gte=account.start, admitted_at__lt=account.end)
    kind, _, number = account.key.partition(":")
    if kind == "user":
        return records.filter(user=int(number))
    if kind == "group":
        # A record names one team; whoever is in several spends for all of them.
        members = User.groups.through.objects.filter(group=int(number)).values("user")
        return records.filter(Q(group=int(number)) | Q(user__in=members))
    return records


def key_of(budget: Budget, user_id: int) -> str:
    """The account in which a limit counts a person's calls."""
    if budget.kind == Budget.Kind.PERSONAL:
        return f"user:{user_id}"
    return f"group:{budget.group_id}" if budget.group_id else EVERYONE


def _account(budget: Budget, user_id: int, at: datetime) -> Account:
    start, end = window(budget.period, at)
    blocks = budget.mode == Budget.Mode.BLOCK
    limit, warn_limit = (budget.limit, None) if blocks else (None, budget.limit)
    return Account(key_of(budget, user_id), budget.period, start, end, limit, budget.source_words, warn_limit)


def precedence(budget: Budget) -> tuple:
    """Person before team before everyone; a temporary limit before a lasting one; then the newer."""
    specific = 2 if budget.user_id else 1 if budget.group_id else 0
    return specific, budget.valid_until is not None, budget.created_at, budget.pk


def _both(one: Account, other: Account) -> Account:
    """The stricter of two limits of the same account, and the stricter of two warnings; named after what stops."""
    strict = min((a for a in (one, other) if a.limit is not None), key=lambda a: a.limit or 0, default=one)
    warns = [a.warn_limit for a in (one, other) if a.warn_limit is not None]
    return replace(strict, warn_limit=min(warns, default=None))
