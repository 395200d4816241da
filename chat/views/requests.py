from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from chat import asking, limits
from chat.forms import RequestForm
from chat.http import SignedInRequest
from chat.models import BudgetRequest


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def budget_request(request: SignedInRequest) -> HttpResponse:
    """Ask for more. `?account=` is the limit that was in the way, as a refusal in the chat names it."""
    askable = limits.askable(request.user)
    if request.method != "POST":
        return _page(request, RequestForm(limits=askable, account=request.GET.get("account", "")))
    form = RequestForm(request.POST, limits=askable)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        asking.ask(request.user, **form.cleaned_data)
    except asking.AlreadyAsked as problem:
        form.add_error(None, str(problem))
        return _page(request, form, status=409)
    return _done(request)


@login_required
@require_POST
def budget_request_withdrawal(request: SignedInRequest, request_id: int) -> HttpResponse:
    """Take one's own request back."""
    mine = get_object_or_404(request.user.budget_requests, id=request_id)
    try:
        asking.withdraw(mine)
    except asking.NotPossible as problem:
        if request.htmx:
            return _page(request, RequestForm(limits=limits.askable(request.user)), notice=str(problem), status=409)
        messages.warning(request, str(problem))
    return _done(request)


def _done(request: SignedInRequest) -> HttpResponse:
    if request.htmx:
        return _page(request, RequestForm(limits=limits.askable(request.user)))
    return redirect("budget-request")


def _page(request: SignedInRequest, form: RequestForm, *, notice: str = "", status: int = 200) -> HttpResponse:
    """The page, or what changes of it for htmx."""
    newest = list(request.user.budget_requests.order_by("-created_at", "-pk")[:50])
    words = asking.accounts_in_words(newest)
    asked = [_asked(one, words[one.account]) for one in newest]
    waiting = next((one for one in asked if one["is_open"]), None)
    context = {
        "waiting": waiting,
        "earlier": [one for one in asked if not one["is_open"]],
        # What was typed while another tab asked is kept; otherwise one request at a time is enough.
        "form": None if waiting and not form.is_bound else form,
        "own": limits.own(request.user),
        "today": timezone.localdate(),
        "latest": timezone.localdate() + asking.LONGEST,
        "notice": notice,
    }
    template = "chat/requests.html#requests" if request.htmx else "chat/requests.html"
    return render(request, template, context, status=status)


def _asked(asked: BudgetRequest, limit_words: str) -> dict:
    return {
        "id": asked.pk,
        "amount": asked.amount,
        "limit_words": limit_words,
        "until_words": limits.day_words(asked.until),
        "reason": asked.reason,
        "is_open": asked.state == BudgetRequest.State.OPEN,
        "state": asked.state,
        "state_words": asked.get_state_display(),
        "created_at": asked.created_at,
        "decided_at": asked.decided_at,
    }
