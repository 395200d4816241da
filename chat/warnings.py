"""At 80 and at 100 per cent of a limit somebody is told: once per period, in the chat and by mail.

The people whose own limit it is see it in the chat. Of a pot its members are not told, since none of them can do
anything about what all have used together: chat/mail.py tells the administrators.

Every text says what was *used*.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from chat.budgets import EVERYONE, day_words
from chat.limits import day_words as last_day_words
from chat.models import Budget, BudgetPeriod, BudgetRequest, BudgetWarning, User
from chat.models.budget import Period
from chat.money import spoken
from chat.prepared import Prepared

NEARLY, FULLY = 80, 100  # per cent
LIMITS = {Budget.Mode.BLOCK: "limit", Budget.Mode.WARN: "warn_limit"}
DECIDED = [BudgetRequest.State.GRANTED, BudgetRequest.State.DECLINED]
WHEN = {Period.DAY: "today", Period.WEEK: "this week", Period.MONTH: "this month"}
# Of what was used up just before midnight one should still hear.
GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Notice:
    """A line above the composer. `refused` where new questions are, so that one may want to ask for more."""

    pk: int
    words: str
    refused: bool = False


def note_crossings(account: str = "") -> None:
    """Write a row for every limit of which 80 or 100 per cent are used and nobody has been told, of one account or all.

    Where both are crossed at once, only 100 is left to be told. Two callers at once are harmless. One statement when
    there is nothing to write; it reads the current periods alone.
    """
    since = timezone.now() - GRACE
    for period in _unnoted_of(account, since) if account else _unnoted_since(since):
        for mode, name in LIMITS.items():
            if percent := _reached(period.spent, getattr(period, name)):
                _note(period, mode, percent, getattr(period, name))


def note_refusal(period: BudgetPeriod) -> None:
    """A limit that holds no further answer of any model is used up, though a trifle is left that nothing fits into."""
    if period.limit and _reached(period.spent, period.limit):
        _note(period, Budget.Mode.BLOCK, FULLY, period.limit)


def current() -> QuerySet[BudgetWarning]:
    """The warnings of periods that are not over, or not for long."""
    return BudgetWarning.objects.filter(period__end__gt=timezone.now() - GRACE).select_related("period")


def shown_to(user: User, standing: dict | None = None) -> list[Notice]:
    """What the chat has to tell a person about their own limits, in one query.

    `standing` is what the page shows below the composer: it knows a limit of today, and where it comes from, while a
    period has the limit of the last question.
    """
    mine = current().filter(period__account=f"user:{user.pk}", period__end__gt=timezone.now(), dismissed_at=None)
    notices = []
    for warning in mine.order_by("-percent", "period__end", "mode"):
        period, source = warning.period, ""
        if standing and (warning.mode, period.period) == (Budget.Mode.BLOCK, standing["period"]):
            period.limit, source = standing["limit"], standing["source_words"]
        if is_true(warning):
            notices.append(Notice(warning.pk, words(warning, source), stops(warning)))
    return notices


def decisions_shown_to(user: User) -> list[Notice]:
    """The answers to a person's requests that are still of use, in one query."""
    decided = user.budget_requests.filter(state__in=DECIDED, dismissed_at=None, until__gte=timezone.localdate())
    newest_first = decided.select_related("decided_by").order_by("-decided_at", "-pk")
    return [Notice(request.pk, decision_words(request)) for request in newest_first]


def decision_words(request: BudgetRequest) -> str:
    """The answer to a request, for who asked."""
    who = (request.decided_by.get_full_name() or str(request.decided_by)) if request.decided_by else "An administrator"
    if request.state == BudgetRequest.State.GRANTED:
        return f"{who} granted you {spoken(request.amount)} more until {last_day_words(request.until)}."
    return f"{who} declined your request for {spoken(request.amount)} more."


def is_true(warning: BudgetWarning) -> bool:
    """Whether as much is still used of the limit as it is now: it may have been raised or taken away since."""
    limit = _limit(warning)
    if warning.percent == FULLY and limit is not None and limit <= warning.limit:
        return True
    return _reached(warning.period.spent, limit) >= warning.percent


def words(warning: BudgetWarning, source: str = "") -> str:
    """A warning for the person whose own limit it is, with the figures of now."""
    of_what = f" ({source})" if source else ""
    return (
        f"You have used {percent_used(warning)} % of your limit: {_figures(warning)}{of_what}. {_consequence(warning)}"
    )


def pot_words(warning: BudgetWarning) -> str:
    """A warning for the administrators: a pot belongs to nobody alone."""
    return f"{percent_used(warning)} % of {pot_name(warning)} is used: {_figures(warning)}. {_consequence(warning)}"


def pot_name(warning: BudgetWarning) -> str:
    account = warning.period.account
    if account == EVERYONE:
        return "the pot of everyone"
    name = Group.objects.filter(pk=account.removeprefix("group:")).values_list("name", flat=True).first()
    return f"the pot of {name}" if name else "the pot of a team that is gone"


def percent_used(warning: BudgetWarning) -> int:
    """Rounded down, so that 100 means all of it."""
    limit = _limit(warning)
    return min(999, 100 * warning.period.spent // limit) if limit else warning.percent


def stops(warning: BudgetWarning) -> bool:
    """Whether new questions are refused because of it."""
    return warning.mode == Budget.Mode.BLOCK and warning.percent == FULLY


def _unnoted(since) -> QuerySet[BudgetPeriod]:
    found = Q()
    for mode, name in LIMITS.items():
        # In whole numbers, and without 80 times a large limit, which would not fit into a BIGINT.
        for percent, least in ((NEARLY, F(name) - F(name) / 5), (FULLY, F(name))):
            noted = BudgetWarning.objects.filter(period=OuterRef("pk"), mode=mode, percent=percent)
            found |= Q(~Exists(noted), **{f"{name}__gt": 0, "spent__gte": least})
    return BudgetPeriod.objects.filter(found, end__gt=since)


_END = BudgetPeriod._meta.get_field("end")
_unnoted_since = Prepared(_unnoted, _END)
# After every answer.
_unnoted_of = Prepared(
    lambda account, since: _unnoted(since).filter(account=account), BudgetPeriod._meta.get_field("account"), _END
)


def _reached(spent: int, limit: int | None) -> int:
    """80, 100 or nothing. The same sums as in `_unnoted`; of a limit of zero nothing can be used."""
    if not limit or spent < limit - limit // 5:
        return 0
    return FULLY if spent >= limit else NEARLY


@transaction.atomic
def _note(period: BudgetPeriod, mode: str, percent: int, limit: int) -> None:
    facts = {"period": period, "mode": mode, "limit": limit, "spent": period.spent}
    rows = [BudgetWarning(**facts, percent=percent)]
    if percent == FULLY:
        rows.append(BudgetWarning(**facts, percent=NEARLY))
    BudgetWarning.objects.bulk_create(rows, ignore_conflicts=True)
    if percent == FULLY:
        now = Now()
        BudgetWarning.objects.filter(period=period, mode=mode, percent=NEARLY).update(
            mailed_at=Coalesce("mailed_at", now), dismissed_at=Coalesce("dismissed_at", now)
        )


def _limit(warning: BudgetWarning) -> int | None:
    return getattr(warning.period, LIMITS[Budget.Mode(warning.mode)])


def _figures(warning: BudgetWarning) -> str:
    period = warning.period
    return f"{spoken(period.spent)} of {spoken(_limit(warning) or 0)} {WHEN[Period(period.period)]}"


def _consequence(warning: BudgetWarning) -> str:
    again = f"It starts again on {day_words(warning.period.end)}."
    if warning.mode == Budget.Mode.WARN:
        return f"It only warns: nothing stops. {again}"
    if stops(warning):
        return f"{again} Until then new questions are refused; everything can still be read."
    return again
