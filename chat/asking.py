"""Asking for more, and the answer. A request is decided once, whoever decides at the same time.

Granted, it becomes a Budget with an end: the limit that is in force at that moment plus what was asked for. After its
last day the old limit holds again by itself.
"""

from collections.abc import Iterable
from datetime import date, timedelta

from django.contrib.admin.models import CHANGE
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from chat import budgets, limits
from chat.models import Budget, BudgetRequest, User
from chat.money import LARGEST, NANO, spoken

LONGEST = timedelta(days=366)
UNDO_WITHIN = timedelta(days=7)
State = BudgetRequest.State


class NotPossible(Exception):
    """Nothing was changed. The words are for the person who tried."""


class AlreadyAsked(NotPossible):
    """There is an open request of this person."""


def ask(user: User, limit: limits.Limit, amount: int, reason: str, until: date) -> BudgetRequest:
    """Ask for `amount` nano-dollars on top of one of the person's limits. Raises AlreadyAsked."""
    try:
        with transaction.atomic():
            return user.budget_requests.create(
                account=limit.account, period=limit.period, amount=amount, reason=reason, until=until
            )
    except IntegrityError:
        raise AlreadyAsked("You have asked already. Take that request back to change it.") from None


def withdraw(request: BudgetRequest) -> None:
    """Take a request back. Raises NotPossible when it has been answered."""
    if not BudgetRequest.objects.filter(pk=request.pk, state=State.OPEN).update(state=State.WITHDRAWN):
        raise NotPossible(f"This request is not open any more: {_state_now(request)}.")


@transaction.atomic
def grant(request: BudgetRequest, by: User) -> Budget:
    """Raise the limit that was asked for, until the end of the last day. Raises NotPossible."""
    budgets.enter_the_books(alone=True)
    _decide(request, by, State.GRANTED)
    if request.until < timezone.localdate():
        raise NotPossible(f"It was asked for until {limits.day_words(request.until)}, which is over. Decline it.")
    limit = in_force(request)
    if limit is None:
        raise NotPossible(f"The limit that {request.user} asked about no longer holds for them. Decline it.")
    kind, _, number = request.account.partition(":")
    budget = Budget.objects.create(
        kind=Budget.Kind.PERSONAL if kind == "user" else Budget.Kind.POT,
        user_id=int(number) if kind == "user" else None,
        group_id=int(number) if kind == "group" else None,
        limit=min(limit.limit + request.amount, LARGEST * NANO),
        period=limit.period,
        valid_until=limits.end_of(request.until),
    )
    BudgetRequest.objects.filter(pk=request.pk).update(budget=budget)
    limits.log(by, request, CHANGE, f"Granted, of {request.account}: {limits.words(budget)}")
    return budget


@transaction.atomic
def decline(request: BudgetRequest, by: User) -> None:
    """Leave the limit as it is. Raises NotPossible when somebody has decided before."""
    _decide(request, by, State.DECLINED)
    limits.log(by, request, CHANGE, f"Declined, of {request.account}: {spoken(request.amount)} more")


@transaction.atomic
def undo(request: BudgetRequest, by: User) -> None:
    """Open a request again and take away what was granted. Raises NotPossible.

    `request` as it was when it was looked at: a later decision is another one, and is not undone.
    """
    budgets.enter_the_books(alone=True)
    if request.until < timezone.localdate():
        raise NotPossible(f"It was asked for until {limits.day_words(request.until)}, which is over.")
    if later_raises(request).exists():
        raise NotPossible("A later raise of the same limit builds on this one. Undo that one first.")
    decided = BudgetRequest.objects.filter(pk=request.pk, state=request.state, decided_at=request.decided_at)
    nobody = {"decided_by": None, "decided_at": None, "decision_mailed_at": None, "dismissed_at": None}
    try:
        with transaction.atomic():
            undone = decided.filter(state__in=[State.GRANTED, State.DECLINED]).update(
                state=State.OPEN, budget=None, **nobody
            )
    except IntegrityError:
        raise NotPossible(f"Meanwhile {request.user} has asked again. Decide about that request.") from None
    if not undone:
        raise NotPossible(f"This decision has been changed by somebody else: {_state_now(request)}.")
    if request.budget_id is not None:
        Budget.objects.filter(pk=request.budget_id).delete()
    limits.log(by, request, CHANGE, f"Taken back: {request.get_state_display().lower()}")


def in_force(request: BudgetRequest) -> limits.Limit | None:
    """The limit that a request is about, as it stands now; None if it does not stop that person any more."""
    named = [limit for limit in limits.askable(request.user) if limit.account == request.account]
    return next((limit for limit in named if limit.period == request.period), None)


def accounts_in_words(requests: Iterable[BudgetRequest]) -> dict[str, str]:
    """What each account is called, for people."""
    accounts = {request.account for request in requests}
    teams = [account.removeprefix("group:") for account in accounts if account.startswith("group:")]
    names = {f"group:{pk}": name for pk, name in Group.objects.filter(pk__in=teams).values_list("pk", "name")}
    return {account: _account_words(account, names) for account in accounts}


def open_requests() -> QuerySet[BudgetRequest]:
    return BudgetRequest.objects.filter(state=State.OPEN).select_related("user").order_by("created_at", "pk")


def decided_lately() -> QuerySet[BudgetRequest]:
    """What was decided in the last days, the newest first."""
    lately = BudgetRequest.objects.filter(
        state__in=[State.GRANTED, State.DECLINED], decided_at__gte=timezone.now() - UNDO_WITHIN
    )
    return lately.select_related("user", "decided_by", "budget").order_by("-decided_at", "-pk")


def later_raises(request: BudgetRequest) -> QuerySet[BudgetRequest]:
    """Raises in force that were added to this one."""
    same = BudgetRequest.objects.filter(account=request.account, period=request.period, state=State.GRANTED)
    if request.budget_id is None:
        return same.none()
    return same.filter(budget__pk__gt=request.budget_id, budget__valid_until__gt=timezone.now())


def _decide(request: BudgetRequest, by: User, state: str) -> None:
    open_still = BudgetRequest.objects.filter(pk=request.pk, state=State.OPEN)
    if not open_still.update(state=state, decided_by=by, decided_at=timezone.now()):
        raise NotPossible(f"This request is not open any more: {_state_now(request)}.")


def _account_words(account: str, names: dict[str, str]) -> str:
    if account == budgets.EVERYONE:
        return "the pot of everyone"
    if account.startswith("group:"):
        return f"the pot of {names[account]}" if account in names else "the pot of a team that is gone"
    return "the personal limit"


def _state_now(request: BudgetRequest) -> str:
    now = BudgetRequest.objects.select_related("decided_by").filter(pk=request.pk).first()
    if now is None:
        return "it is gone"
    return now.get_state_display().lower() + (f" by {now.decided_by}" if now.decided_by else "")
