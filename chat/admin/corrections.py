"""The cost of one call, put right: by an entry of its own, with who and why. Nothing is edited."""

import uuid
from collections.abc import Iterable

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from chat import pricing, reports, spend
from chat.http import SignedInRequest
from chat.models import LedgerEntry, UsageRecord, User
from chat.money import DollarsFormField, dollars

# Far above what one call can cost, far below what the columns can add up.
LARGEST_COST = 1_000_000  # dollars


class CorrectionForm(forms.Form):
    """`seen` is the cost that the page was made for, in nano-dollars."""

    seen = forms.IntegerField(widget=forms.HiddenInput)
    cost = DollarsFormField(
        label="True cost in dollars",
        validators=[
            MinValueValidator(0, "A cost cannot be below zero."),
            MaxValueValidator(LARGEST_COST, "No call costs more than %(limit_value)s dollars."),
        ],
    )
    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vLargeTextField", "placeholder": "Not on the invoice of November"}),
        error_messages={"required": "Say why: it is kept with the correction."},
    )


class Changed(Exception):
    """The cost is not the one that the correction was made for. Nothing has been written."""


@permission_required("chat.add_ledgerentry", raise_exception=True)
def correction(request: SignedInRequest, record_id: uuid.UUID) -> HttpResponse:
    """What a call cost and why, and a form for what it should have cost; "Write off" is the same at zero."""
    record = get_object_or_404(UsageRecord.objects.select_related("user", "group"), id=record_id)
    if request.method != "POST":
        return _page(request, record, _form_for(record))
    data = request.POST.copy()
    if "write_off" in data:
        data["cost"] = "0"
    form = CorrectionForm(data)
    if record.state != UsageRecord.State.SETTLED:
        return _page(request, record, form, status=409)
    if not form.is_valid():
        return _page(request, record, form, status=422)
    try:
        difference = _correct(request, record, **form.cleaned_data)
    except Changed:
        record.refresh_from_db()
        form.add_error(
            None,
            f"Nothing was written: this call costs {exact(record.cost)} now. It was corrected after you had opened the "
            "page, as the history says. If it is still wrong, correct it from there.",
        )
        data["seen"] = str(record.cost)
        return _page(request, record, form, status=409)
    if difference:
        messages.success(request, f"Corrected by {exact(difference)}.")
    else:
        messages.info(request, "Nothing was written: that is what this call costs already.")
    return redirect(request.path)


def exact(nano: int) -> str:
    """An amount to its last digit: a correction may be smaller than what `spoken` shows."""
    return f"{'−' if nano < 0 else ''}${dollars(abs(nano)).normalize():,f}"


@transaction.atomic
def _correct(request: SignedInRequest, record: UsageRecord, *, seen: int, cost: int, reason: str) -> int:
    """Write the difference, and who did it into the admin's own history. Returns it in nano-dollars."""
    row = UsageRecord.objects.select_for_update().get(id=record.id)
    if row.cost != seen:
        raise Changed
    if difference := cost - row.cost:
        spend.adjust(row, difference, actor=request.user, reason=reason)
        words = f"Cost corrected from {exact(row.cost)} to {exact(cost)}."
        LogEntry.objects.log_actions(request.user.pk, [row], CHANGE, words)
    return difference


def _form_for(record: UsageRecord) -> CorrectionForm:
    return CorrectionForm(initial={"seen": record.cost, "cost": record.cost})


def _page(request: HttpRequest, record: UsageRecord, form: CorrectionForm, status: int = 200) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": "Correct a cost",
        "record": record,
        "person": record.user.get_username() if record.user else reports.LEFT,
        "held": exact(record.held),
        "cost": exact(record.cost),
        "can_be_corrected": record.state == UsageRecord.State.SETTLED,
        "tokens": _tokens(record),
        "history": _history(record),
        "form": form,
    }
    return render(request, "admin/correction.html", context, status=status)


def _tokens(record: UsageRecord) -> list[dict]:
    """What was used of each kind and what the price row, as it was then, says of it."""
    numbers = record.price_numbers
    rows = [
        {
            "kind": f"{kind.replace('_', ' ')} tokens",
            "count": getattr(record, f"{kind}_tokens"),
            "price": f"{exact(numbers[kind])} per million",
            "long": exact(numbers[f"long_{kind}"]) if f"long_{kind}" in numbers else "",
        }
        for kind in pricing.KINDS
    ]
    if record.unknown_tokens:
        rows.append({"kind": "of other kinds", "count": record.unknown_tokens, "price": "the dearest of these"})
    if record.searches:
        price = f"{exact(numbers.get('search', 0))} per thousand"
        rows.append({"kind": "web searches", "count": record.searches, "price": price})
    return rows


def _history(record: UsageRecord) -> list[dict]:
    entries = list(record.entries.select_related("period").order_by("id"))
    names = _names({key for entry in entries for key in (entry.actor, entry.period.account)})
    return [
        {
            "created_at": entry.created_at,
            "kind": entry.get_kind_display(),
            "amount": exact(entry.amount),
            "account": names[entry.period.account],
            "period": entry.period.get_period_display(),
            "actor": names[entry.actor],
            "reason": entry.reason,
            "is_correction": entry.kind == LedgerEntry.Kind.ADJUST,
        }
        for entry in entries
    ]


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Who is meant by user:7, group:3 and everyone. The books keep no names, so that people can leave."""
    ids: dict[str, set[int]] = {"user": set(), "group": set()}
    for kind, _, number in (key.partition(":") for key in keys):
        if kind in ids:
            ids[kind].add(int(number))
    found = {f"user:{pk}": name for pk, name in User.objects.filter(pk__in=ids["user"]).values_list("pk", "username")}
    teams = Group.objects.filter(pk__in=ids["group"]).values_list("pk", "name")
    found |= {f"group:{pk}": f"team {name}" for pk, name in teams}
    gone = {"user": "somebody who left", "group": "a team that is gone", "": "Tally"}
    return {key: found.get(key) or gone.get(key.partition(":")[0], key) for key in keys}
