from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from chat import catalogue, reports, thread
from chat.http import SignedInRequest
from chat.models import UsageRecord
from chat.periods import window


@login_required
@require_safe
def own_spend(request: SignedInRequest) -> HttpResponse:
    """What a person used, by the same sums that the admin sees."""
    now = timezone.now()
    mine = {"user": request.user}
    month = reports.spent_between(*window("month", now)).filter(**mine)
    labels = {"day": "Today", "week": "This week", "month": "This month"}
    context = {
        "standing": thread.standing(request.user),
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
    return render(request, "chat/spend.html", context)


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
