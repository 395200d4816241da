"""What an administrator decides on the spend page: requests for more, and one person's limit."""

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from chat import asking, limits
from chat.admin.spend import page
from chat.forms import PersonLimitForm
from chat.http import SignedInRequest
from chat.models import BudgetRequest, User
from chat.money import spoken


def by_decider(view: Callable) -> Callable:
    """A POST of somebody who may see the spend page and change limits; asked at every request."""

    @require_POST
    @wraps(view)
    def checked(request: SignedInRequest, **kwargs) -> HttpResponse:
        if not request.user.has_perms(["chat.view_usagerecord", "chat.change_budget"]):
            raise PermissionDenied
        return view(request, **kwargs)

    return checked


@by_decider
def request_grant(request: SignedInRequest, request_id: int) -> HttpResponse:
    def grant(asked: BudgetRequest) -> str:
        budget = asking.grant(asked, request.user)
        return f"Granted: the limit is {limits.words(budget)} ({asked.user})."

    return _tried(request, request_id, grant)


@by_decider
def request_decline(request: SignedInRequest, request_id: int) -> HttpResponse:
    def decline(asked: BudgetRequest) -> str:
        asking.decline(asked, request.user)
        return f"Declined: {spoken(asked.amount)} more for {asked.user}."

    return _tried(request, request_id, decline)


@by_decider
def request_undo(request: SignedInRequest, request_id: int) -> HttpResponse:
    def undo(asked: BudgetRequest) -> str:
        if request.POST.get("state") != asked.state:
            raise asking.NotPossible("This request was decided anew since you looked at it.")
        asking.undo(asked, request.user)
        return f"Taken back: the request of {asked.user} waits for an answer again."

    return _tried(request, request_id, undo)


@by_decider
def person_limit(request: SignedInRequest, user_id: int) -> HttpResponse:
    """Set one person's limit, lasting or with a last day; `remove` lets the team's or everyone's hold again."""
    person = get_object_or_404(User, id=user_id)
    if "remove" in request.POST:
        removed = limits.remove_for(person, by=request.user)
        words = f"The personal limit of {person} is removed." if removed else f"No personal limit of {person} was set."
    else:
        form = PersonLimitForm(request.POST)
        if not form.is_valid():
            return page(request, str(person.pk), form, status=422)
        budget = limits.set_for(person, **form.cleaned_data, by=request.user)
        words = f"The limit of {person} is set: {limits.words(budget)}."
    holds = limits.of(person)[0]
    until = f" {holds.until_words}" if holds.until else ""
    messages.success(
        request, f"{words} Now {spoken(holds.limit)} {holds.period_words}{until} holds: {holds.source_words}."
    )
    return redirect("admin:spend")


def _tried(request: SignedInRequest, request_id: int, act: Callable[[BudgetRequest], str]) -> HttpResponse:
    """Back on the page, with what `act` says it did or why it could not."""
    asked = get_object_or_404(BudgetRequest.objects.select_related("user"), id=request_id)
    try:
        messages.success(request, act(asked))
    except asking.NotPossible as problem:
        messages.warning(request, str(problem))
    return redirect(f"{reverse('admin:spend')}?decided={asked.pk}#requests")
