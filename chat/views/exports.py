"""The spend pages as CSV files: `?month=2026-11`, or this month."""

import re
from datetime import UTC, datetime

from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.utils import timezone
from django.views.decorators.http import require_safe

from chat import exports, reports
from chat.exports import Download
from chat.http import SignedInRequest
from chat.periods import window


@login_required
@require_safe
def own_calls(request: SignedInRequest) -> Download:
    """Every call of one's own, with the titles of one's own conversations."""
    month, start, end = _month(request)
    mine = reports.called_between(start, end).filter(user=request.user)
    return exports.calls(f"tally-my-calls-{month}", mine, exports.OWN_CALLS)


@permission_required("chat.view_usagerecord", raise_exception=True)
@require_safe
def people(request: HttpRequest) -> Download:
    month, start, end = _month(request)
    return exports.people(f"tally-people-{month}", start, end)


@permission_required("chat.view_usagerecord", raise_exception=True)
@require_safe
def calls(request: HttpRequest) -> Download:
    """Everybody's calls: that they were made and what they cost, never what about."""
    month, start, end = _month(request)
    return exports.calls(f"tally-calls-{month}", reports.called_between(start, end), exports.CALLS)


@permission_required("chat.view_ledgerentry", raise_exception=True)
@require_safe
def ledger(request: HttpRequest) -> Download:
    month, start, end = _month(request)
    return exports.ledger(f"tally-ledger-{month}", reports.booked_between(start, end))


def _month(request: HttpRequest) -> tuple[str, datetime, datetime]:
    """The month that is asked for, as 2026-11, with its start and end."""
    month = request.GET.get("month", f"{timezone.localtime():%Y-%m}")
    if not re.fullmatch("2[0-9]{3}-(0[1-9]|1[0-2])", month):
        raise BadRequest("A month is written like 2026-11.")
    year, number = month.split("-")
    return month, *window("month", datetime(int(year), int(number), 15, tzinfo=UTC))
