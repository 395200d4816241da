"""The spend pages as CSV files: `?month=2026-11`, or this month. A conversation as Markdown or JSON."""

import re
import uuid
from datetime import UTC, datetime

from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from chat import conversation_export, exports, reports
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


@login_required
@require_safe
def conversation_markdown(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    name = conversation_export.file_name(conversation, "md")
    return _file(conversation_export.markdown(conversation), "text/markdown; charset=utf-8", name)


@login_required
@require_safe
def conversation_json(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    name = conversation_export.file_name(conversation, "json")
    return _file(conversation_export.as_json(conversation), "application/json", name)


def _file(text: str, kind: str, name: str) -> HttpResponse:
    """A download, and never a page: what is in it was written by people and models."""
    disposition = content_disposition_header(as_attachment=True, filename=name) or "attachment"
    return HttpResponse(text, content_type=kind, headers={"Content-Disposition": disposition})


def _month(request: HttpRequest) -> tuple[str, datetime, datetime]:
    """The month that is asked for, as 2026-11, with its start and end."""
    month = request.GET.get("month", f"{timezone.localtime():%Y-%m}")
    if not re.fullmatch("2[0-9]{3}-(0[1-9]|1[0-2])", month):
        raise BadRequest("A month is written like 2026-11.")
    year, number = month.split("-")
    return month, *window("month", datetime(int(year), int(number), 15, tzinfo=UTC))
