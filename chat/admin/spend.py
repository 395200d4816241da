from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from chat import budgets, reports
from chat.models import User
from chat.models.budget import Period
from chat.periods import window

COLUMNS = {"username", "spent", "held", "limit", "left", "percent", "calls", "estimated"}


def spend(request: HttpRequest) -> HttpResponse:
    """One row per person: what was spent this month, and how their limit stands."""
    if not request.user.has_perm("chat.view_usagerecord"):
        raise PermissionDenied
    now = timezone.now()
    start, end = window("month", now)
    rows = _rows(now, start, end)
    sort = request.GET.get("sort", "-spent")
    column = sort.removeprefix("-") if sort.removeprefix("-") in COLUMNS else "spent"
    rows.sort(
        key=lambda row: (row[column] is None, row[column] or (0 if column != "username" else "")),
        reverse=sort[0:1] == "-",
    )
    summed = ("spent", "held", "limit", "left", "calls", "estimated")
    context = {
        **admin.site.each_context(request),
        "title": "Team spend",
        "rows": rows,
        "totals": {name: sum(row[name] or 0 for row in rows) for name in summed},
        "period_label": f"{timezone.localtime(start):%B %Y}",
    }
    return render(request, "admin/spend.html", context)


def _rows(now, start, end) -> list[dict]:
    people = list(User.objects.order_by("username"))
    standings = budgets.personal_standings(people, now)
    sums = {row["user"]: row for row in reports.by(reports.spent_between(start, end), "user")}
    nothing = {"spent": 0, "calls": 0, "estimated": 0}
    rows = [_row(person, standings.get(person.pk), sums.pop(person.pk, nothing)) for person in people]
    if gone := sums.pop(None, None):
        rows.append(
            {
                "username": "People who left",
                "url": "",
                "spent": gone["spent"],
                "calls": gone["calls"],
                "estimated": gone["estimated"],
                "held": 0,
                "limit": None,
                "left": None,
                "percent": None,
                "source_words": "",
                "period_words": "",
            }
        )
    return rows


def _row(person: User, standing: budgets.Standing | None, sums: dict) -> dict:
    return {
        "username": person.username,
        "full_name": person.get_full_name(),
        "url": reverse("admin:chat_user_change", args=[person.pk]),
        "spent": sums["spent"],
        "calls": sums["calls"],
        "estimated": sums["estimated"],
        "held": standing.held if standing else 0,
        "limit": standing.limit if standing else None,
        "left": standing.left if standing else None,
        "percent": standing.percent_used if standing else None,
        "source_words": standing.source_words if standing else "only warned",
        "period_words": Period(standing.period).label if standing else "",
    }
