"""The proof that the books are right, for whoever does not have a shell."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from chat import audit
from chat.models import BudgetPeriod, LedgerEntry, UsageRecord


@require_safe
def books(request: HttpRequest) -> HttpResponse:
    """What `manage.py audit_ledger` says. It reads everything, so it is a page of its own."""
    if not request.user.has_perm("chat.view_ledgerentry"):
        raise PermissionDenied
    context = {
        **admin.site.each_context(request),
        "title": "Books",
        "problems": audit.problems(),
        "entries": LedgerEntry.objects.count(),
        "calls": UsageRecord.objects.count(),
        "periods": BudgetPeriod.objects.count(),
    }
    return render(request, "admin/books.html", context)
