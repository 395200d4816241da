from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from chat import asking, budgets, limits, reports
from chat.forms import PersonLimitForm
from chat.models import Alarm, BudgetRequest, User
from chat.models.budget import Period
from chat.periods import window

COLUMNS = {"username", "spent", "held", "limit", "left", "percent", "calls", "estimated"}
SHOWN = 50  # requests, or alarms, on one page


def spend(request: HttpRequest) -> HttpResponse:
    """One row per person: what was spent this month, and how their limit stands."""
    if not request.user.has_perm("chat.view_usagerecord"):
        raise PermissionDenied
    return page(request, request.GET.get("limit", ""))


def page(
    request: HttpRequest, limit_of: str, form: PersonLimitForm | None = None, *, status: int = 200
) -> HttpResponse:
    """The page. `limit_of` is the id of the person whose limit is being set, as the address has it."""
    now = timezone.now()
    start, end = window("month", now)
    rows = _rows(now, start, end)
    may_decide = request.user.has_perms(["chat.view_usagerecord", "chat.change_budget"])
    sort = request.GET.get("sort", "")
    if sort.removeprefix("-") not in COLUMNS:
        sort = "-spent"
    column = sort.removeprefix("-")
    rows.sort(
        key=lambda row: (row[column] is None, row[column] or (0 if column != "username" else "")),
        reverse=sort[0] == "-",
    )
    known = {str(row["id"]) for row in rows if row["id"]}
    summed = ("spent", "held", "limit", "left", "calls", "estimated")
    context = {
        **admin.site.each_context(request),
        "title": "Team spend",
        "rows": rows,
        "totals": {name: sum(row[name] or 0 for row in rows) for name in summed},
        "period_label": f"{timezone.localtime(start):%B %Y}",
        "may_decide": may_decide,
        "alarms": Alarm.objects.filter(closed_at=None).order_by("-last_at")[:SHOWN],
        "requests": _open_requests(),
        "decided": _decided_lately(),
        "show_decided": "decided" in request.GET,
        "sort": sort,
        "limit_of": _limit_form(int(limit_of), form) if may_decide and limit_of in known else None,
    }
    return render(request, "admin/spend.html", context, status=status)


def _open_requests() -> list[dict]:
    """What waits for an answer, the oldest first; the rest comes up when these are decided."""
    waiting = list(asking.open_requests()[:SHOWN])
    words = asking.accounts_in_words(waiting)
    return [
        {"asked": asked, "limit_words": words[asked.account], "limit": asking.in_force(asked), **_until(asked)}
        for asked in waiting
    ]


def _decided_lately() -> list[dict]:
    decided = list(asking.decided_lately()[:SHOWN])
    words = asking.accounts_in_words(decided)
    return [{"asked": asked, "limit_words": words[asked.account], **_until(asked)} for asked in decided]


def _until(asked: BudgetRequest) -> dict:
    return {"until_words": limits.day_words(asked.until), "is_over": asked.until < timezone.localdate()}


def _limit_form(person_id: int, form: PersonLimitForm | None) -> dict:
    person = User.objects.get(pk=person_id)
    holds = limits.of(person)[0]
    # What holds only for a while is no proposal for what shall last.
    limit = None if holds.until else holds.limit
    return {
        "person": person,
        "holds": holds,
        "form": form or PersonLimitForm(initial={"limit": limit, "period": holds.period}),
        "has_personal": limits.personal(person).exists(),
        "today": timezone.localdate(),
    }


def _rows(now, start, end) -> list[dict]:
    sums = list(reports.by_person(start, end))
    standings = budgets.personal_standings([person for person, _ in sums if person], now)
    return [_row(person, standings.get(person.pk), row) if person else _gone(row) for person, row in sums]


def _gone(sums: dict) -> dict:
    nothing = dict.fromkeys(["limit", "left", "percent"])
    words = dict.fromkeys(["id", "url", "source_words", "period_words"], "")
    return {"username": reports.LEFT, "held": 0, **nothing, **words, **_sums(sums)}


def _sums(sums: dict) -> dict:
    return {name: sums[name] for name in ("spent", "calls", "estimated")}


def _row(person: User, standing: budgets.Standing | None, sums: dict) -> dict:
    return {
        "id": person.pk,
        "username": person.username,
        "full_name": person.get_full_name(),
        "url": reverse("admin:chat_user_change", args=[person.pk]),
        **_sums(sums),
        "held": standing.held if standing else 0,
        "limit": standing.limit if standing else None,
        "left": standing.left if standing else None,
        "percent": standing.percent_used if standing else None,
        "source_words": standing.source_words if standing else "only warned",
        "period_words": Period(standing.period).label if standing else "",
    }
