from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from chat.http import SignedInRequest, back
from chat.models import BudgetWarning
from chat.warnings import DECIDED


@login_required
@require_POST
def warning_dismissal(request: SignedInRequest, warning_id: int) -> HttpResponse:
    """Put away what was said about one's own limit. Once dismissed, it stays away for the period."""
    return _dismiss(request, BudgetWarning.objects.filter(period__account=f"user:{request.user.pk}"), warning_id)


@login_required
@require_POST
def request_dismissal(request: SignedInRequest, request_id: int) -> HttpResponse:
    """Put away the answer to one's own request. Until there is one, there is nothing to put away."""
    return _dismiss(request, request.user.budget_requests.filter(state__in=DECIDED), request_id)


def _dismiss(request: SignedInRequest, mine: QuerySet, pk: int) -> HttpResponse:
    get_object_or_404(mine, pk=pk)
    mine.filter(pk=pk, dismissed_at=None).update(dismissed_at=Now())
    if request.htmx:
        return HttpResponse()
    return redirect(back(request, "conversation-list"))
