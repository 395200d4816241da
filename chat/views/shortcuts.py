from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from chat.http import SignedInRequest, back
from chat.models import User


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def shortcuts(request: SignedInRequest) -> HttpResponse:
    """The keys that do something. POST `single_keys`, "yes" or "no": whether those without Alt and Shift do."""
    if request.method != "POST":
        return render(request, "chat/shortcuts.html")
    User.objects.filter(pk=request.user.pk).update(single_keys=request.POST.get("single_keys") == "yes")
    return redirect(back(request, "shortcuts"))
