from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from chat import catalogue, limits, reports
from chat.forms import OwnLimitForm
from chat.http import SignedInRequest
from chat.models import Budget, UsageRecord
from chat.models.budget import Period
from chat.periods import window


@login_required
@require_safe
def own_spend(request: SignedInRequest) -> HttpResponse:
    """What a person used, by the same sums that the admin sees, and every limit that holds for them."""
    return render(request, "chat/spend.html", _page(request, _own_limit_form(request)))


@login_required
@require_POST
def own_limit(request: SignedInRequest) -> HttpResponse:
    """A person's limit for themself; `remove` takes it away."""
    if "remove" in request.POST:
        limits.free_oneself(request.user)
        messages.success(request, "Your own limit is removed.")
        return redirect("spend")
    form = OwnLimitForm(request.POST)
    if not form.is_valid():
        return render(request, "chat/spend.html", _page(request, form), status=422)
    budget = limits.limit_oneself(request.user, **form.cleaned_data)
    verb = "stops you at" if budget.mode == Budget.Mode.BLOCK else "warns you at"
    messages.success(request, f"Your own limit {verb} {limits.words(budget)}.")
    return redirect("spend")


def _own_limit_form(request: SignedInRequest) -> OwnLimitForm:
    own = limits.own(request.user)
    names = ("limit", "period", "mode")
    return OwnLimitForm(
        initial={name: getattr(own, name) for name in names}
        if own
        else {"period": Period.MONTH, "mode": Budget.Mode.BLOCK}
    )


def _page(request: SignedInRequest, form: OwnLimitForm) -> dict:
    now = timezone.now()
    mine = {"user": request.user}
    month = reports.spent_between(*window("month", now)).filter(**mine)
    labels = {"day": "Today", "week": "This week", "month": "This month"}
    concerning = limits.of(request.user, now)
    stopping = [limit for limit in concerning if limit.counts and limit.blocks]
    return {
        "tightest": min(stopping, key=lambda limit: limit.left, default=None),
        "limits": [limit for limit in concerning if limit.counts],
        "passed_over": [limit for limit in concerning if not limit.counts],
        "form": form,
        "has_own_limit": any(limit.by_self for limit in concerning),
        "may_ask": any(not limit.by_self for limit in stopping),
        "periods": [
            {"label": label, **reports.totals(reports.spent_between(*window(period, now)).filter(**mine))}
            for period, label in labels.items()
        ],
        "by_model": [{**row, "name": catalogue.find(row["model"]).name} for row in reports.by(month, "model")],
        "by_conversation": [
            _conversation(row) for row in reports.by(month, "conversation", "conversation__title")[:20]
        ],
        "recent": [_call(record) for record in request.user.usage_records.order_by("-admitted_at")[:50]],
    }


def _conversation(row: dict) -> dict:
    if row["conversation"] is None:
        return {"title": "Deleted conversations", "url": "", "spent": row["spent"]}
    url = reverse("conversation", args=[row["conversation"]])
    return {"title": row["conversation__title"] or "New conversation", "url": url, "spent": row["spent"]}


def _call(record: UsageRecord) -> dict:
    return {
        "created_at": record.admitted_at,
        "purpose_words": record.get_purpose_display(),
        "model_name": catalogue.find(record.model).name,
        "tokens_in": record.prompt_tokens,
        "tokens_out": record.output_tokens,
        "cost": record.cost,
        "estimated": record.confidence == UsageRecord.Confidence.ESTIMATED,
        "state_words": record.get_state_display(),
    }
