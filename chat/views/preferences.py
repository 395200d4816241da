from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from chat.forms import LONGEST_INSTRUCTIONS, PreferencesForm
from chat.http import SignedInRequest
from chat.models import User


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: SignedInRequest) -> HttpResponse:
    """What holds for all of a person's conversations."""
    person = User.objects.get(id=request.user.pk)
    form = PreferencesForm(request.POST if request.method == "POST" else None, instance=person)
    if request.method == "POST" and form.is_valid():
        User.objects.filter(id=person.pk).update(**form.cleaned_data)
        messages.success(request, "Saved. It holds from your next message on.")
        return redirect("preferences")
    status = 422 if form.errors else 200
    return render(request, "chat/preferences.html", {"form": form, "longest": LONGEST_INSTRUCTIONS}, status=status)
